package graphretry

import (
	"cmp"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// blank stands where a secret stood.
const blank = "[REDACTED]"

var (
	// accessToken finds Meta's access tokens wherever they stand. A request can
	// carry its token in its body, where this package does not look.
	accessToken = regexp.MustCompile(`\bEAA[0-9A-Za-z]{12,}`)
	// userinfo finds the user and the password in a URL, such as a proxy's.
	userinfo = regexp.MustCompile(`://[^\s/?#"]+@`)
)

// redact blanks the secrets of req in a text: Meta echoes them ("Malformed
// access token ...") and so can a proxy's error.
func redact(req *http.Request, text string) string {
	if text == "" {
		return text
	}
	for _, secret := range secrets(req) {
		text = strings.ReplaceAll(text, secret, blank)
	}
	text = userinfo.ReplaceAllString(text, "://"+blank+"@")
	return accessToken.ReplaceAllString(text, blank)
}

// urlWithQuery finds a URL up to the end of its query, also of one between quotes, as [url.Error] has
// it, where a quote in the query has a backslash before it.
var urlWithQuery = regexp.MustCompile(`"\w[\w+.-]*://[^\s?#"]*\?(?:\\.|[^"\\])*"|://[^\s?#"]*\?\S*`)

// redactError is [redact] for the text of an error. It can be of a RoundTripper
// below, which has put a token into the query that req knows nothing of, so every
// query goes.
func redactError(req *http.Request, err error) string {
	return urlWithQuery.ReplaceAllStringFunc(redact(req, err.Error()), func(url string) string {
		address, _, _ := strings.Cut(url, "?")
		if strings.HasPrefix(url, `"`) {
			return address + "?" + blank + `"`
		}
		return address + "?" + blank
	})
}

// redacted blanks the secrets of req in the texts of e, but for Raw.
func redacted(req *http.Request, e *Error) *Error {
	for _, text := range []*string{&e.Type, &e.Message, &e.Details, &e.UserTitle, &e.UserMessage, &e.TraceID} {
		*text = redact(req, *text)
	}
	return e
}

// secrets are the values of a request that nobody else may see, the longest
// first, since one can be a part of another: its credentials, the user in its
// URL, its query as a whole, and the values in it whose names say so, among them
// access_token, appsecret_proof and client_secret.
func secrets(req *http.Request) []string {
	if req == nil {
		return nil
	}
	var found []string
	add := func(secret string) {
		// A shorter one is no secret, and to blank it would spoil the text.
		if len(secret) >= 4 {
			found = append(found, secret, url.QueryEscape(secret))
		}
	}
	for name, values := range req.Header {
		if !strings.EqualFold(name, "Authorization") && !strings.EqualFold(name, "Proxy-Authorization") {
			continue
		}
		for _, value := range values {
			scheme, credentials, hasScheme := strings.Cut(value, " ")
			if !hasScheme {
				credentials = scheme
			}
			add(strings.TrimSpace(credentials))
		}
	}
	if _, password, ok := req.BasicAuth(); ok {
		add(password)
	}
	if req.URL == nil {
		return found
	}
	if user := req.URL.User; user != nil {
		password, _ := user.Password()
		for _, secret := range append(strings.Split(user.String(), ":"), user.Username(), password) {
			add(secret)
		}
	}
	if query := req.URL.RawQuery; query != "" {
		add("?" + query)
		// Not url.ParseQuery, which leaves out what it cannot read.
		for pair := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			if secretName(unescaped(name)) {
				add(value)
				add(unescaped(value))
			}
		}
	}
	slices.SortFunc(found, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return found
}

// unescaped is a part of a query without its escapes, if they can be read.
func unescaped(part string) string {
	if text, err := url.QueryUnescape(part); err == nil {
		return text
	}
	return part
}

// secretName tells whether a query parameter of this name holds a secret.
func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"token", "secret", "proof", "password", "signature", "signed_request"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return name == "code" || name == "pin"
}
