package graphretry

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
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
	metaToken = regexp.MustCompile(`EAA[0-9A-Za-z_-]{12,}|(?:IG|TH)[A-Z]{2,}[0-9a-z][0-9A-Za-z_-]{8,}|` +
		`[0-9]{5,}(?:\||%(?:25)*7[Cc])[0-9A-Za-z_-]{4,}`)

	// namedValue finds the value of a name that says secret, as in a query, a form or
	// a path, escaped or not.
	namedValue = regexp.MustCompile(`(?i)(` + nameOfSecret + `(?:=|%(?:25)*3D))([^\s&"'<>\\]+)`)
	// jsonValue finds it in JSON, and escapedValue in JSON inside a string.
	jsonValue    = regexp.MustCompile(`(?i)("` + nameOfSecret + `" ?:\s*")((?:[^"\\]|\\.)+)`)
	escapedValue = regexp.MustCompile(`(?i)(\\"` + nameOfSecret + `\\" ?:\s*\\")([^"\\]+)`)
	// formValue finds it in a multipart form.
	formValue = regexp.MustCompile(`(?i)(name="` + nameOfSecret + `"(?:\r?\n[^\r\n]+)*\r?\n\r?\n)([^\r\n]+)`)

	// secretHeader finds the header fields whose name says secret.
	secretHeader = regexp.MustCompile(`(?i)key|token|secret|cookie|authorization|signature|password`)

	// userinfo finds the user and the password in a URL, such as a proxy's.
	userinfo = regexp.MustCompile(`://[^\s/?#"]+@`)
)

// nameOfSecret matches a name that says secret, such as access_token,
// appsecret_proof, client_secret and api_key.
const nameOfSecret = `(?:[\w.%\[\]-]*(?:token|secret|proof|passw(?:or)?d|signature|signed_request|credential|authorization|cookie)[\w.%\[\]-]*?|` +
	`(?:[\w.%\[\]-]*[_-]|\b)(?:api)?key)`

// redactor blanks secrets in texts.
type redactor struct {
	values []string // of the requests, the longest first: one can be a part of another
}

// redactorOf returns what blanks the secrets of these requests, which may be nil.
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
// in e. Their bodies are read as well if e can echo them: that is an error about a
// token or a parameter. One that passes says nothing of the request, and a GetBody
// is asked for no more than it has to.
func redactorFor(e *Error, requests ...*http.Request) redactor {
	var found values
	class := e.Class()
	for _, req := range requests {
		if req == nil {
			continue
		}
		found.addRequest(req)
		if class == ClassPermission || class == ClassParameter {
			found.addNamed(bodyInMemory(req))
		}
	}
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
	if strings.Contains(text, "=") || strings.Contains(text, "%") {
		text = namedValue.ReplaceAllString(text, "${1}"+blank)
	}
	if strings.Contains(text, `":`) || strings.Contains(text, `" :`) {
		text = jsonValue.ReplaceAllString(text, "${1}"+blank)
		text = escapedValue.ReplaceAllString(text, "${1}"+blank)
	}
	if strings.Contains(text, "@") {
		text = userinfo.ReplaceAllString(text, "://"+blank+"@")
	}
	if slices.ContainsFunc(tokenMarks, func(mark string) bool { return strings.Contains(text, mark) }) {
		text = metaToken.ReplaceAllString(text, blank)
	}
	return text
}

// tokenMarks are what a text must have for [metaToken] to find anything in it.
var tokenMarks = []string{"EAA", "IG", "TH", "|", "%"}

// urlWithQuery finds a URL up to the end of its query, also of one between quotes, as [url.Error] has
// it, where a quote in the query has a backslash before it.
var urlWithQuery = regexp.MustCompile(`"\w[\w+.-]*://[^\s?#"]*\?(?:\\.|[^"\\])*"|://[^\s?#"]*\?\S*`)

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
	*v = append(*v, value, url.QueryEscape(value), url.PathEscape(value))
	if quoted, err := json.Marshal(value); err == nil {
		*v = append(*v, string(quoted[1:len(quoted)-1]))
	}
}

// addRequest adds the values of a request but for its body: its header fields whose
// names say secret, the user in its URL, its query as a whole, and the values in
// its URL whose names say secret.
func (v *values) addRequest(req *http.Request) {
	for name, fields := range req.Header {
		if secretHeader.MatchString(name) {
			for _, field := range fields {
				v.addField(name, field)
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
	v.addNamed(req.URL.Path)
	if query := req.URL.RawQuery; query != "" {
		v.add("?" + query)
		// Not url.ParseQuery, which leaves out what it cannot read.
		for pair := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			if secretParameter.MatchString(unescaped(name)) {
				v.add(value)
				v.add(unescaped(value))
			}
			v.addNamed(unescaped(value))
		}
	}
}

// secretParameter matches the names of query parameters that hold a secret: also
// the code of an OAuth login and the PIN of a phone number, whose names say
// something else in any other text.
var secretParameter = regexp.MustCompile(`(?i)^(?:` + nameOfSecret + `|code|pin)$`)

// addField adds the value of a header field: the credentials behind the scheme of
// an Authorization, else the whole, and each value of a list of pairs, such as
// cookies.
func (v *values) addField(name, field string) {
	secret := field
	if strings.Contains(strings.ToLower(name), "authorization") {
		if _, credentials, hasScheme := strings.Cut(field, " "); hasScheme {
			secret = credentials
		}
	}
	v.add(strings.TrimSpace(secret))
	for pair := range strings.FieldsFuncSeq(field, func(r rune) bool { return r == ';' || r == ',' }) {
		if _, value, ok := strings.Cut(pair, "="); ok {
			v.add(strings.Trim(value, ` "`))
		}
	}
}

// addNamed adds the values in a text whose names say secret.
func (v *values) addNamed(text string) {
	for _, named := range []*regexp.Regexp{namedValue, jsonValue, formValue} {
		for _, match := range named.FindAllStringSubmatch(text, -1) {
			v.add(match[2])
			v.add(unescaped(match[2]))
			if inner := ""; json.Unmarshal([]byte(`"`+match[2]+`"`), &inner) == nil {
				v.add(inner)
			}
		}
	}
}

// bodyInMemory returns the head of a body that can be read once more, and at once,
// else "".
func bodyInMemory(req *http.Request) string {
	if req.GetBody == nil {
		return ""
	}
	body, err := req.GetBody()
	if err != nil || body == nil {
		return ""
	}
	defer body.Close()
	if inMemory(body) == nil {
		return ""
	}
	head, _ := io.ReadAll(io.LimitReader(body, peekLimit))
	return string(head)
}

// unescaped returns a part of a query without its escapes, if they can be read.
func unescaped(part string) string {
	if text, err := url.QueryUnescape(part); err == nil {
		return text
	}
	return part
}
