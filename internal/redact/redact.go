// Package redact blanks secrets in texts that are to be logged or put into an error. It
// knows texts and [*http.Request], and no Graph error.
//
// Three things are blanked, and nothing else:
//
//	(a) every value that the request carries in a place of credentials: a header, a
//	    parameter or a field of its body whose name says secret, its query as a whole,
//	    and the user in its URL; in each form in which such a value can come back;
//	(b) what has the form of one of Meta's tokens, wherever it stands;
//	(c) the value of a name that says secret, in any text: in a query, a form, a path,
//	    a header or JSON, and what a URL has as its user and, in the text of an error, as
//	    its query.
//
//	redact.go   the texts
//	request.go  (a)
//	pattern.go  (b) and (c)
package redact

import (
	"slices"
	"strings"
)

// Redactor blanks secrets in texts. The zero Redactor knows no request.
type Redactor struct {
	values []string // of the requests, the longest first: one can be a part of another
}

// Text blanks secrets in a text: Meta echoes them ("Malformed access token ...") and so
// can a proxy's error.
func (r Redactor) Text(text string) string {
	if text == "" {
		return text
	}
	for _, value := range r.values {
		text = strings.ReplaceAll(text, value, blank)
	}
	// The regular expressions take most of an error's time, and few texts have what
	// they look for.
	if strings.ContainsAny(text, `=%\&:`) && saysSecret(text) {
		text = namedValue.blankIn(text)
		if strings.Contains(text, ":") {
			text = jsonValue.blankIn(text)
			text = jsonOther.blankIn(text)
			text = escapedValue.blankIn(text)
			text = cookieValue.blankIn(text)
			text = fieldValue.blankIn(text)
		}
	}
	if strings.Contains(text, "@") {
		text = userinfo.regexp().ReplaceAllString(text, "://"+blank+"@")
	}
	if slices.ContainsFunc(tokenMarks, func(mark string) bool { return strings.Contains(text, mark) }) {
		text = metaToken.regexp().ReplaceAllString(text, blank)
	}
	return text
}

// Err blanks secrets in the text of an error. It can be of a RoundTripper below,
// which has put a token into the query that the request knows nothing of, so every
// query goes.
func (r Redactor) Err(err error) string {
	return urlWithQuery.regexp().ReplaceAllStringFunc(r.Text(err.Error()), func(url string) string {
		address, _, _ := strings.Cut(url, "?")
		if strings.HasPrefix(url, `"`) {
			return address + "?" + blank + `"`
		}
		return address + "?" + blank
	})
}
