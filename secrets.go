package graphretry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/url"
	"reflect"
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

// values are those that nobody else may see.
type values []string

// add adds a value in the forms in which it can come back.
func (v *values) add(value string) {
	// A shorter one is no secret, and to blank it would spoil the text.
	const shortest = 4
	if len(value) < shortest {
		return
	}
	*v = append(*v, value)
	if !strings.ContainsFunc(value, escapable) {
		return
	}
	query, path := url.QueryEscape(value), url.PathEscape(value)
	// A decoder of JSON reads what is not UTF-8 as U+FFFD.
	*v = append(*v, query, path, smallEscapes(query), smallEscapes(path), html.EscapeString(value), string([]rune(value)))
	if quoted, err := json.Marshal(value); err == nil {
		*v = append(*v, string(quoted[1:len(quoted)-1]))
	}
}

// escapable reports whether a character can come back as another.
func escapable(r rune) bool {
	isWord := '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || r == '_' || r == '-'
	return !isWord
}

// escape finds a percent-encoded byte.
var escape = regexp.MustCompile(`%[0-9A-F]{2}`)

// smallEscapes returns a text whose escapes have small letters.
func smallEscapes(text string) string { return escape.ReplaceAllStringFunc(text, strings.ToLower) }

// addRequest adds the values of a request but for its body: its header fields whose
// names say secret, the user in its URL, its query as a whole, and the values in
// its URL whose names say secret.
func (v *values) addRequest(req *http.Request) {
	for _, header := range []http.Header{req.Header, req.Trailer} {
		for name, fields := range header {
			if secretHeader.MatchString(name) {
				for _, field := range fields {
					v.addField(field)
				}
			}
		}
	}
	if _, password, ok := req.BasicAuth(); ok {
		v.add(password)
	}
	if req.URL == nil {
		return
	}
	if user := req.URL.User; user != nil {
		password, _ := user.Password()
		for _, secret := range append(strings.Split(user.String(), ":"), user.Username(), password) {
			v.add(secret)
		}
	}
	for _, path := range []string{req.URL.Path, req.URL.RawPath, req.URL.Opaque, req.URL.Fragment} {
		for part := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '&' || r == '?' || r == ';' }) {
			v.addParameters(part[strings.LastIndex(strings.SplitN(part, "=", 2)[0], "/")+1:], 0)
		}
	}
	if query := req.URL.RawQuery; query != "" {
		v.add("?" + query)
		v.addParameters(query, 0)
	}
}

// schemes are those of an Authorization and of what resembles one.
var schemes = []string{"basic", "bearer", "oauth", "token", "key", "digest", "apikey"}

// addField adds the value of a header field: what stands behind its first word,
// which can be a scheme, the whole, if that is none we know, and each value of a
// list, or of a list of pairs, such as cookies.
func (v *values) addField(field string) {
	credentials := strings.TrimSpace(field)
	scheme, rest, _ := strings.Cut(credentials, " ")
	rest = strings.TrimSpace(rest)
	v.add(rest)
	if slices.Contains(schemes, strings.ToLower(scheme)) {
		credentials = rest
	}
	v.add(credentials)
	for item := range strings.FieldsFuncSeq(credentials, func(r rune) bool { return r == ';' || r == ',' }) {
		v.add(strings.Trim(item, ` "`))
		if _, value, ok := strings.Cut(item, "="); ok {
			v.add(strings.Trim(value, ` "`))
		}
	}
}

// addBody adds the values in the head of a body, in any of the encodings that the
// Graph API takes, whose names say secret. mayAsk is whether GetBody may be asked
// for a body that cannot be read beside whoever sends it.
func (v *values) addBody(req *http.Request, mayAsk bool) {
	body := headInMemory(req, mayAsk)
	if strings.Contains(body, "form-data") {
		for _, match := range formValue.FindAllStringSubmatch(body, -1) {
			v.add(match[2])
		}
	}
	v.addText(body, 0)
}

// deepestSecret is how deep a value may stand in JSON. A text in a text, such as the
// parameters in a field of a form, counts as much as several levels, since each is
// read once more.
const deepestSecret, levelsOfText = 16, 4

// addText adds the values in a text, which can be JSON or a list of parameters,
// such as the field "batch" of a request and the URLs in it.
func (v *values) addText(text string, depth int) {
	switch trimmed := strings.TrimLeft(text, " \t\r\n"); {
	case trimmed == "" || depth > deepestSecret:
	case trimmed[0] == '{' || trimmed[0] == '[':
		v.addJSON([]byte(trimmed), false, depth)
	case strings.ContainsAny(text, "=%"):
		if saysSecret(text) {
			for _, match := range namedValue.FindAllStringSubmatch(text, -1) {
				v.add(match[2])
				v.add(unescaped(match[2]))
			}
		}
		v.addParameters(text, depth)
	}
}

// addParameters adds the values in a query or a form.
func (v *values) addParameters(text string, depth int) {
	const longestName = 256
	// Not url.ParseQuery, which leaves out what it cannot read.
	for pair := range strings.SplitSeq(text, "&") {
		name, value, hasValue := strings.Cut(pair, "=")
		switch readable := unescaped(value); {
		case len(name) <= longestName && secretParameter.MatchString(unescaped(name)):
			v.add(value)
			v.add(readable)
		case hasValue:
			v.addText(readable, depth+levelsOfText)
		}
	}
}

// addJSON adds the values in JSON. All of it is secret below a name that says so.
func (v *values) addJSON(value []byte, secret bool, depth int) {
	if depth > deepestSecret || len(value) == 0 {
		return
	}
	switch value[0] {
	case '{':
		for key, inner := range members(value) {
			v.addJSON(inner, secret || secretMember.Match(key), depth+1)
		}
	case '[':
		for _, inner := range elements(value) {
			v.addJSON(inner, secret, depth+1)
		}
	default:
		switch {
		case secret:
			v.add(unquoted(value))
		case value[0] == '"':
			v.addText(text(value), depth+levelsOfText/2)
		}
	}
}

// headInMemory returns the head of a body that is in memory, else "".
func headInMemory(req *http.Request, mayAsk bool) string {
	if req.Body == nil || req.Body == http.NoBody {
		return ""
	}
	body := req.Body
	if sent, ok := body.(*upload); ok {
		body = sent.body
	}
	value := reflect.ValueOf(body)
	inNopCloser := slices.Contains(nopClosers, value.Type())
	if inNopCloser {
		// Of these, what was read can be read again, also while net/http still reads.
		// ReadAt and Size touch nothing that a Read changes.
		switch reader := value.Field(0).Interface().(type) {
		case *bytes.Reader:
			return headOf(reader, reader.Size())
		case *strings.Reader:
			return headOf(reader, reader.Size())
		}
	}
	if req.GetBody == nil || !mayAsk && !inNopCloser {
		return ""
	}
	fresh, err := req.GetBody()
	if err != nil || fresh == nil {
		return ""
	}
	defer fresh.Close()
	if inMemory(fresh) == nil {
		return ""
	}
	head, _ := io.ReadAll(io.LimitReader(fresh, peekLimit))
	return string(head)
}

func headOf(reader io.ReaderAt, size int64) string {
	head := make([]byte, min(size, peekLimit))
	n, _ := reader.ReadAt(head, 0)
	return string(head[:n])
}

// unescaped returns a part of a query without its escapes, if they can be read.
func unescaped(part string) string {
	if text, err := url.QueryUnescape(part); err == nil {
		return text
	}
	return part
}
