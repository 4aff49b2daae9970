package graphretry

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// blank stands where a secret stood.
const blank = "[REDACTED]"

// accessToken finds Meta's access tokens wherever they stand. A request can
// carry its token in its body, where this package does not look.
var accessToken = regexp.MustCompile(`\bEAA[0-9A-Za-z]{12,}`)

// redact blanks the secrets of req in a text: Meta echoes them ("Malformed
// access token ...") and so can a proxy's error.
func redact(req *http.Request, text string) string {
	if text == "" {
		return text
	}
	for _, secret := range secrets(req) {
		text = strings.ReplaceAll(text, secret, blank)
	}
	return accessToken.ReplaceAllString(text, blank)
}

// redacted blanks the secrets of req in the texts of e, but for Raw.
func redacted(req *http.Request, e *Error) *Error {
	for _, text := range []*string{&e.Type, &e.Message, &e.Details, &e.UserTitle, &e.UserMessage, &e.TraceID} {
		*text = redact(req, *text)
	}
	return e
}

// secrets are the values of a request that nobody else may see: its
// credentials, the password in its URL, and those of its query parameters whose
// names say so, among them access_token, appsecret_proof and client_secret.
func secrets(req *http.Request) []string {
	if req == nil {
		return nil
	}
	var found []string
	add := func(secret string) {
		// A shorter one is no secret, and to blank it would spoil the text.
		if len(secret) >= 4 {
			found = append(found, secret)
			if escaped := url.QueryEscape(secret); escaped != secret {
				found = append(found, escaped)
			}
		}
	}
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		for _, value := range req.Header.Values(name) {
			_, credentials, _ := strings.Cut(value, " ")
			add(strings.TrimSpace(credentials))
			add(value)
		}
	}
	if req.URL == nil {
		return found
	}
	if password, ok := req.URL.User.Password(); ok {
		add(password)
		add(req.URL.User.Username())
	}
	for name, values := range req.URL.Query() {
		if secretName(name) {
			for _, value := range values {
				add(value)
			}
		}
	}
	return found
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
