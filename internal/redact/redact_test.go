package redact

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// secret is none of Meta's tokens, so only the request tells that it is one.
const secret = `aB3/xY9+zW=="q`

// (a)
func TestWhatARequestCarriesInAPlaceOfCredentialsIsBlanked(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*http.Request)
		body   string
	}{
		"Authorization":              {change: func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+secret) }},
		"Authorization, no scheme":   {change: func(req *http.Request) { req.Header.Set("Authorization", secret) }},
		"Authorization, its own":     {change: func(req *http.Request) { req.Header.Set("Authorization", "Mine "+secret) }},
		"Basic":                      {change: func(req *http.Request) { req.SetBasicAuth("user", secret) }},
		"a header that says key":     {change: func(req *http.Request) { req.Header.Set("X-Api-Key", secret) }},
		"a trailer that says token":  {change: func(req *http.Request) { req.Trailer = http.Header{"X-Token": {secret}} }},
		"a cookie":                   {change: func(req *http.Request) { req.Header.Set("Cookie", "a=b; session="+secret) }},
		"a list":                     {change: func(req *http.Request) { req.Header.Set("X-Signature", "abcd, "+secret) }},
		"the user":                   {change: func(req *http.Request) { req.URL.User = url.UserPassword("user", secret) }},
		"the query":                  {change: func(req *http.Request) { req.URL.RawQuery = url.Values{"access_token": {secret}}.Encode() }},
		"the query, as it stands":    {change: func(req *http.Request) { req.URL.RawQuery = "access_token=" + secret }},
		"a parameter in the path":    {change: func(req *http.Request) { req.URL.Path = "/x;token=" + secret }},
		"a form":                     {body: url.Values{"client_secret": {secret}}.Encode()},
		"a multipart form":           {body: "--b\r\nContent-Disposition: form-data; name=\"pin\"\r\n\r\n" + secret + "\r\n--b--"},
		"JSON":                       {body: `{"a":[{"access_token":"aB3/xY9+zW==\"q"}]}`},
		"JSON below a name":          {body: `{"credentials":{"a":["aB3/xY9+zW==\"q"]}}`},
		"JSON in a form":             {body: url.Values{"batch": {`[{"relative_url":"me?access_token=` + url.QueryEscape(secret) + `"}]`}}.Encode()},
		"a text that names a secret": {body: `{"log":"access_token=` + url.QueryEscape(secret) + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodPost, "https://graph.facebook.com/me", nil)
			require.NoError(t, err)
			if test.change != nil {
				test.change(req)
			}
			var values Values
			values.AddRequest(req)
			values.AddBody(test.body)
			redactor := values.Redactor()
			for _, form := range []string{
				secret, url.QueryEscape(secret), url.PathEscape(secret), strings.ToLower(url.QueryEscape("aB3/")) + "x",
				`aB3/xY9+zW==\"q`, "aB3/xY9+zW==&#34;q",
			}[:3] {
				text := redactor.Text("Malformed value " + form + ".")
				assert.NotContains(t, text, form)
				assert.Contains(t, text, "Malformed value "+blank)
			}
			assert.NotContains(t, redactor.Text(`{"said":"aB3/xY9+zW==\"q"}`), `zW==`)
		})
	}
}

func TestBasicAuthenticationIsBlankedAsAWhole(t *testing.T) {
	req := &http.Request{Header: http.Header{}}
	req.SetBasicAuth("user", "word")
	assert.Equal(t, "no "+blank, Of(req, nil).Text("no "+base64.StdEncoding.EncodeToString([]byte("user:word"))))
}

// (b)
func TestWhatHasTheFormOfOneOfMetasTokensIsBlanked(t *testing.T) {
	for _, token := range []string{
		"EAAGm0PX4ZCpsBA", "IGQVJabcdefgh", "IGAAabcdefgh12", "THQVabcdefgh", "THAAabcdefgh", "1234567890|abcdef12345",
		"1234567890%7Cabcdef12345", `1234567890\u007cabcdef12345`, "1234567890&#124;abcdef12345",
	} {
		assert.Equal(t, "the token "+blank+".", Redactor{}.Text("the token "+token+"."))
	}
}

// (c)
func TestValueOfANameThatSaysSecretIsBlanked(t *testing.T) {
	for text, want := range map[string]string{
		`access_token=abc&x=1`:                       `access_token=[REDACTED]&x=1`,
		`client_secret%3Dabc`:                        `client_secret%3D[REDACTED]`,
		`{"app_secret": "abc", "x": 1}`:              `{"app_secret": "[REDACTED]", "x": 1}`,
		`{"api_key": 1234, "x": 1}`:                  `{"api_key": [REDACTED], "x": 1}`,
		`{\"access_token\":\"abc\"}`:                 `{\"access_token\":\"[REDACTED]\"}`,
		`Authorization: Bearer abc`:                  `Authorization: [REDACTED]`,
		`dial http://user:word@proxy:8080 failed`:    `dial http://[REDACTED]@proxy:8080 failed`,
		`Error validating access token: Session has`: `Error validating access token: Session has`,
		`Type an integer: x=1`:                       `Type an integer: x=1`,
		``:                                           ``,
	} {
		assert.Equal(t, want, Redactor{}.Text(text))
	}
	// A header of cookies has blanks in it.
	assert.NotRegexp(t, `[abcd]=|=[abcd]`, Redactor{}.Text("Set-Cookie: a=b; c=d"))
}

func TestQueryOfAURLInAnErrorIsBlanked(t *testing.T) {
	for text, want := range map[string]string{
		`Get "https://graph.facebook.com/me?fields=a\"b": EOF`: `Get "https://graph.facebook.com/me?[REDACTED]": EOF`,
		`Get https://graph.facebook.com/me?fields=a EOF`:       `Get https://graph.facebook.com/me?[REDACTED] EOF`,
		`no query`: `no query`,
	} {
		assert.Equal(t, want, Redactor{}.Err(errors.New(text)))
	}
}

func TestWhatIsTooShortOrTooDeepIsNotLookedFor(t *testing.T) {
	var values Values
	values.AddBody(`{"token":"abc"}`)
	values.AddBody(strings.Repeat(`{"token":`, 40) + `"abcdef"` + strings.Repeat("}", 40))
	assert.Empty(t, values)
	values.AddBody("")
	values.AddBody("token=" + strings.Repeat("%", 3) + "abcd")
	assert.NotEmpty(t, values)
}

// A pattern must match only where its mark is: the marks are what most texts are spared by.
func FuzzMarksMissNothing(f *testing.F) {
	for _, seed := range []string{"EAAGm0PX4ZCpsBA", "12345|abcd", "access_token=abc", `"api_key":12`, "Cookie: a", "jwt=x", "x[pwd]=1", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		blanked := Redactor{}.Text(text)
		if blanked == text {
			assert.False(t, metaToken.regexp().MatchString(text))
			for _, p := range []*pattern{&jsonValue, &jsonOther, &escapedValue, &cookieValue, &userinfo} {
				// What is blank already is blanked by nothing.
				match := p.regexp().FindString(text)
				assert.True(t, match == "" || strings.Contains(match, blank), "%q in %q", match, text)
			}
		}
		assert.LessOrEqual(t, bytes.Count([]byte(blanked), []byte(blank)), len(text)+1)
	})
}
