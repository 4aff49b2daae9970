package redact

import (
	"cmp"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/graphretry/graphretry/internal/jsonbody"
)

// Of returns what blanks the secrets of these requests, which may be nil, but for those in
// their bodies.
func Of(requests ...*http.Request) Redactor {
	var found Values
	for _, req := range requests {
		if req != nil {
			found.AddRequest(req)
		}
	}
	return found.Redactor()
}

// (a) The places of credentials in a request.
var (
	// formValue finds it in a multipart form.
	formValue = pattern{expression: `(?i)(name="?(?:` + nameOfSecret + `|pin)"?(?:\r?\n[^\r\n]+)*\r?\n\r?\n)([^\r\n]+)`}

	// secretHeader finds the header fields whose name says secret.
	secretHeader = pattern{expression: `(?i)key|\bauth\b|` + wordOfSecret}
	// secretParameter matches the names of parameters, in a query or a form, that hold
	// a secret: also the code of an OAuth login and the PIN of a phone number, whose
	// names say something else in any other text.
	secretParameter = pattern{expression: `(?i)^(?:` + nameOfSecret + `|code|pin)$`}
	// secretMember matches those of JSON, where "code" is a template's language too.
	secretMember = pattern{expression: `(?i)^(?:` + nameOfSecret + `|pin)$`}
)

// Values are those of requests that nobody else may see. The zero Values has none.
type Values []string

// add adds a value in the forms in which it can come back.
func (v *Values) add(value string) {
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
var escape = pattern{expression: `%[0-9A-F]{2}`}

// smallEscapes returns a text whose escapes have small letters.
func smallEscapes(text string) string {
	return escape.regexp().ReplaceAllStringFunc(text, strings.ToLower)
}

// AddRequest adds the values of a request but for its body: its header fields whose
// names say secret, the user in its URL, its query as a whole, and the values in
// its URL whose names say secret.
func (v *Values) AddRequest(req *http.Request) {
	for _, header := range []http.Header{req.Header, req.Trailer} {
		for name, fields := range header {
			if secretHeader.regexp().MatchString(name) {
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
func (v *Values) addField(field string) {
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

// AddBody adds the values in the head of a body, in any of the encodings that the Graph
// API takes, whose names say secret.
func (v *Values) AddBody(head string) {
	if strings.Contains(head, "form-data") {
		for _, match := range formValue.regexp().FindAllStringSubmatch(head, -1) {
			v.add(match[2])
		}
	}
	v.addText(head, 0)
}

// Redactor returns what blanks these values.
func (v Values) Redactor() Redactor {
	slices.SortFunc(v, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	return Redactor{slices.Compact(v)}
}

// deepestSecret is how deep a value may stand in JSON. A text in a text, such as the
// parameters in a field of a form, counts as much as several levels, since each is
// read once more.
const deepestSecret, levelsOfText = 16, 4

// addText adds the values in a text, which can be JSON or a list of parameters,
// such as the field "batch" of a request and the URLs in it.
func (v *Values) addText(text string, depth int) {
	switch trimmed := strings.TrimLeft(text, " \t\r\n"); {
	case trimmed == "" || depth > deepestSecret:
	case trimmed[0] == '{' || trimmed[0] == '[':
		v.addJSON([]byte(trimmed), false, depth)
	case strings.ContainsAny(text, "=%"):
		if saysSecret(text) {
			for _, match := range namedValue.regexp().FindAllStringSubmatch(text, -1) {
				v.add(match[2])
				v.add(unescaped(match[2]))
			}
		}
		v.addParameters(text, depth)
	}
}

// addParameters adds the values in a query or a form.
func (v *Values) addParameters(text string, depth int) {
	const longestName = 256
	// Not url.ParseQuery, which leaves out what it cannot read.
	for pair := range strings.SplitSeq(text, "&") {
		name, value, hasValue := strings.Cut(pair, "=")
		switch readable := unescaped(value); {
		case len(name) <= longestName && secretParameter.regexp().MatchString(unescaped(name)):
			v.add(value)
			v.add(readable)
		case hasValue:
			v.addText(readable, depth+levelsOfText)
		}
	}
}

// addJSON adds the values in JSON. All of it is secret below a name that says so.
func (v *Values) addJSON(value []byte, secret bool, depth int) {
	if depth > deepestSecret || len(value) == 0 {
		return
	}
	switch value[0] {
	case '{':
		for key, inner := range jsonbody.Members(value) {
			v.addJSON(inner, secret || secretMember.regexp().Match(key), depth+1)
		}
	case '[':
		for _, inner := range jsonbody.Elements(value) {
			v.addJSON(inner, secret, depth+1)
		}
	default:
		switch {
		case secret:
			v.add(jsonbody.Unquoted(value))
		case value[0] == '"':
			v.addText(jsonbody.Text(value), depth+levelsOfText/2)
		}
	}
}

// unescaped returns a part of a query without its escapes, if they can be read.
func unescaped(part string) string {
	if text, err := url.QueryUnescape(part); err == nil {
		return text
	}
	return part
}
