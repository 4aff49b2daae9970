package graphretry

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// blank stands where a secret stood.
const blank = "[REDACTED]"

// Three kinds of secrets are blanked: what has the form of one of Meta's tokens,
// wherever it stands; the value of a name that says secret, in any text; and, in
// whatever is said of a request, the values that the request itself carries.
var (
	// metaToken finds Meta's access tokens: those of Facebook (EAA...), Instagram
	// (IGQV..., IGAA...) and Threads (THQV..., THAA...), and an app's own, which is
	// its ID and its secret. They can begin in the middle of a word, as behind %3D.
	metaToken = regexp.MustCompile(`EAA[0-9A-Za-z_-]{12,}|(?:IG|TH)(?:AA|Q[A-Z])[0-9A-Za-z_-]{8,}|` +
		`(?:IG|TH)[A-Z]{2,}[0-9a-z][0-9A-Za-z_-]{8,}|` +
		`[0-9]{5,}(?:\||%(?:25)*7[Cc]|\\u007[Cc]|&#124;)[0-9A-Za-z_-]{4,}`)

	// namedValue finds the value of a name that says secret, as in a query, a form or
	// a path, escaped or not, or as a program writes it, with quotes or blanks.
	namedValue = regexp.MustCompile(`(?i)(` + nameOfSecret + `(?:["']? => | = |=|%(?:25)*3D|\\u003d|&#61;))` +
		`((?:\\*"[^"]*"?|'[^']*'?)?[^\s&"]*)`)
	// jsonValue finds it in JSON, jsonOther where it is not a string, and escapedValue
	// in JSON inside a string.
	jsonValue    = regexp.MustCompile(`(?i)("` + nameOfSecret + `"\s*:\s*")((?:[^"\\]|\\.)+)`)
	jsonOther    = regexp.MustCompile(`(?i)("` + nameOfSecret + `"\s*:\s*)(\[[^\]]*|[0-9][^\s,}\]]*)`)
	escapedValue = regexp.MustCompile(`(?i)(\\"` + nameOfSecret + `\\"\s*:\s*\\")([^"\\]+)`)
	// fieldValue finds it in a header that was written out. A name of one word is left
	// alone, since Meta says "Error validating access token: Session has expired".
	fieldValue = regexp.MustCompile(`(?i)((?:[\w.-]*[_-](?:` + wordOfSecret + `|key)[\w.-]*|[\w.-]*(?:` + wordOfSecret + `)[_-][\w.-]*|` +
		`\bauthorization|\bcookie)\s?:\s?\[?)((?:bearer |basic |oauth |digest .*)?[^\s"\]]+)`)
	// cookieValue finds all of a header of cookies, which has blanks in it.
	cookieValue = regexp.MustCompile(`(?i)(\b(?:set-)?cookie\s?:\s?\[?)([^\r\n\]]+)`)
	// formValue finds it in a multipart form.
	formValue = regexp.MustCompile(`(?i)(name="?(?:` + nameOfSecret + `|pin)"?(?:\r?\n[^\r\n]+)*\r?\n\r?\n)([^\r\n]+)`)

	// secretHeader finds the header fields whose name says secret.
	secretHeader = regexp.MustCompile(`(?i)key|\bauth\b|` + wordOfSecret)
	// secretParameter matches the names of parameters, in a query or a form, that hold
	// a secret: also the code of an OAuth login and the PIN of a phone number, whose
	// names say something else in any other text.
	secretParameter = regexp.MustCompile(`(?i)^(?:` + nameOfSecret + `|code|pin)$`)
	// secretMember matches those of JSON, where "code" is a template's language too.
	secretMember = regexp.MustCompile(`(?i)^(?:` + nameOfSecret + `|pin)$`)

	// userinfo finds the user and the password in a URL, such as a proxy's.
	userinfo = regexp.MustCompile(`://[^\s/?#"]+@`)
)

const (
	// wordOfSecret matches what says secret in a name.
	wordOfSecret = `token|secret|proof|passw(?:or)?d|signature|signed_request|credential|assertion|authorization|cookie`
	// nameOfSecret matches a name that says secret, such as access_token,
	// appsecret_proof, client_secret and api_key.
	nameOfSecret = `(?:[\w.%\[\]-]*(?:` + wordOfSecret + `|(?:api|private|access)key)[\w.%\[\]-]*?|` +
		`(?:[\w.%\[\]-]*[_-]|\b)key|\b(?:pwd|auth|jwt))`
)

// redactor blanks secrets in texts.
type redactor struct {
	values []string // of the requests, the longest first: one can be a part of another
}

// redactorOf returns what blanks the secrets of these requests, which may be nil,
// but for those in their bodies.
func redactorOf(requests ...*http.Request) redactor {
	var found values
	for _, req := range requests {
		if req != nil {
			found.addRequest(req)
		}
	}
	return found.redactor()
}

// redactorFor returns what blanks the secrets of these requests, which may be nil,
// in e. A caller's own GetBody is not asked for the body if e passes by itself: such
// an error says nothing of the request.
func redactorFor(e *Error, requests ...*http.Request) redactor {
	var found values
	class := e.Class()
	passes := class == ClassTransient || class == ClassRetryOnce || class == ClassThrottle
	for _, req := range requests {
		if req != nil {
			found.addRequest(req)
			found.addBody(req, !passes)
		}
	}
	return found.redactor()
}

// redactorForError returns what blanks the secrets of a request in the error of a
// RoundTripper below.
func redactorForError(req *http.Request) redactor {
	var found values
	found.addRequest(req)
	found.addBody(req, true)
	return found.redactor()
}

// redactor returns what blanks these values.
func (v values) redactor() redactor {
	slices.SortFunc(v, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return redactor{slices.Compact(v)}
}

// text blanks secrets in a text: Meta echoes them ("Malformed access token ...")
// and so can a proxy's error.
func (r redactor) text(text string) string {
	if text == "" {
		return text
	}
	for _, value := range r.values {
		text = strings.ReplaceAll(text, value, blank)
	}
	// The regular expressions take most of an error's time, and few texts have what
	// they look for.
	if strings.ContainsAny(text, `=%\&:`) && saysSecret(text) {
		text = namedValue.ReplaceAllString(text, "${1}"+blank)
		if strings.Contains(text, ":") {
			text = jsonValue.ReplaceAllString(text, "${1}"+blank)
			text = jsonOther.ReplaceAllString(text, "${1}"+blank)
			text = escapedValue.ReplaceAllString(text, "${1}"+blank)
			text = cookieValue.ReplaceAllString(text, "${1}"+blank)
			text = fieldValue.ReplaceAllString(text, "${1}"+blank)
		}
	}
	if strings.Contains(text, "@") {
		text = userinfo.ReplaceAllString(text, "://"+blank+"@")
	}
	if slices.ContainsFunc(tokenMarks, func(mark string) bool { return strings.Contains(text, mark) }) {
		text = metaToken.ReplaceAllString(text, blank)
	}
	return text
}

// saysSecret reports whether a text has what says secret in a name.
func saysSecret(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(secretMarks, func(mark string) bool { return strings.Contains(text, mark) })
}

// secretMarks are what a text must have for [nameOfSecret] to match in it.
var secretMarks = []string{"token", "secret", "proof", "passw", "signature", "signed_request", "credential", "assertion",
	"authorization", "cookie", "key", "pwd", "auth", "jwt"}

// tokenMarks are what a text must have for [metaToken] to find anything in it.
var tokenMarks = []string{"EAA", "IG", "TH", "|", "%", `\u007`, "&#124;"}

// urlWithQuery finds a URL up to the end of its query, also of one between quotes, as [url.Error] has
// it, where a quote in the query has a backslash before it.
var urlWithQuery = regexp.MustCompile(`"\w[\w+.-]*://[^\s?#"]*\?(?:\\.|[^"\\])*"?|://[^\s?#"]*\?\S*`)

// err blanks secrets in the text of an error. It can be of a RoundTripper below,
// which has put a token into the query that the request knows nothing of, so every
// query goes.
func (r redactor) err(err error) string {
	return urlWithQuery.ReplaceAllStringFunc(r.text(err.Error()), func(url string) string {
		address, _, _ := strings.Cut(url, "?")
		if strings.HasPrefix(url, `"`) {
			return address + "?" + blank + `"`
		}
		return address + "?" + blank
	})
}

// graph blanks secrets in the texts of e, but for Raw, and returns e.
func (r redactor) graph(e *Error) *Error {
	for _, text := range []*string{&e.Type, &e.Message, &e.Details, &e.UserTitle, &e.UserMessage, &e.TraceID} {
		*text = r.text(*text)
	}
	return e
}
