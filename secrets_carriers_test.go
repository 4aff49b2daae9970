package graphretry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry"
)

// outlets collects every word of a Transport's that a person may read.
type outlets struct{ bytes.Buffer }

// options has a Transport write all it says to o.
func (o *outlets) options() []graphretry.Option {
	return []graphretry.Option{
		graphretry.WithLogger(slog.New(slog.NewTextHandler(o, &slog.HandlerOptions{Level: slog.LevelDebug}))),
		graphretry.WithLogger(slog.New(slog.NewJSONHandler(o, &slog.HandlerOptions{Level: slog.LevelDebug}))),
		graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
			fmt.Fprintln(o, event.Kind, event.Reason)
			o.graph(event.Graph)
			if wait := new(graphretry.WaitError); errors.As(event.Err, &wait) {
				fmt.Fprintln(o, wait)
			}
		}),
	}
}

// graph writes all texts of e but Raw.
func (o *outlets) graph(e *graphretry.Error) {
	if e == nil {
		return
	}
	fmt.Fprintln(o, e, e.LogValue())
	texts := *e
	texts.Raw = nil
	fmt.Fprintf(o, "%+v\n%#v\n", texts, texts)
}

// carrier is a way in which a request brings a secret along.
type carrier struct {
	request func(*http.Request)
	secrets []string // as they may come back
}

// isNotIn fails the test if one of the secrets stands in a text, or the part of it
// that is easily overlooked.
func (c carrier) isNotIn(t testing.TB, text string) {
	t.Helper()
	for _, secret := range append(c.secrets, "m0re", "p4ss", "s3cr3t") {
		if at := strings.Index(text, secret); at >= 0 {
			assert.Fail(t, "a secret is out", "%q stands in ...%s...", secret, text[max(0, at-100):min(len(text), at+100)])
		}
	}
}

func carriers() map[string]carrier {
	query := func(raw string) func(*http.Request) {
		return func(req *http.Request) { req.URL.RawQuery = raw }
	}
	header := func(name, value string) func(*http.Request) {
		return func(req *http.Request) { req.Header[name] = append(req.Header[name], value) }
	}
	body := func(text string, secrets ...string) carrier {
		return carrier{func(req *http.Request) {
			req.Body = io.NopCloser(strings.NewReader(text))
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
		}, secrets}
	}
	return map[string]carrier{
		"access_token":                  {query("access_token=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"access_token among others":     {query("fields=id&access_token=s3cr3t-t0k3n&limit=1"), []string{"s3cr3t-t0k3n"}},
		"access_token twice":            {query("access_token=s3cr3t-one&access_token=s3cr3t-two"), []string{"s3cr3t-one", "s3cr3t-two"}},
		"access_token in capitals":      {query("ACCESS_TOKEN=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"access_token of an app":        {query("access_token=123%7Cs3cr3t"), []string{"123|s3cr3t", "123%7Cs3cr3t"}},
		"the same, otherwise escaped":   {query("access_token=123%7cs3cr3t"), []string{"123|s3cr3t", "123%7Cs3cr3t", "123%7cs3cr3t"}},
		"the same, not escaped":         {query("access_token=123|s3cr3t"), []string{"123|s3cr3t", "123%7Cs3cr3t"}},
		"access_token with a semicolon": {query("access_token=s3cr3t;t0k3n"), []string{"s3cr3t;t0k3n"}},
		"access_token escaped badly":    {query("access_token=s3cr3t%zzt0k3n"), []string{"s3cr3t%zzt0k3n"}},
		"access_token with an =":        {query("access_token=s3cr3t=="), []string{"s3cr3t=="}},
		"access_token, name escaped":    {query("access_%74oken=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"appsecret_proof":               {query("appsecret_proof=0123456789abcdef"), []string{"0123456789abcdef"}},
		"client_secret":                 {query("client_id=77&client_secret=s3cr3t"), []string{"s3cr3t"}},
		"input_token":                   {query("input_token=s3cr3t-in&access_token=s3cr3t-ac"), []string{"s3cr3t-in", "s3cr3t-ac"}},
		"fb_exchange_token":             {query("fb_exchange_token=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"one secret begins another":     {query("access_token=s3cr3t&appsecret_proof=s3cr3t-and-m0re"), []string{"s3cr3t", "s3cr3t-and-m0re"}},
		"one secret ends another":       {query("client_secret=s3cr3t&access_token=m0re-and-s3cr3t"), []string{"s3cr3t", "m0re-and-s3cr3t"}},
		"user and password": {
			func(req *http.Request) { req.URL.User = url.UserPassword("us3rname", "p4ssw0rd") },
			[]string{"p4ssw0rd", "us3rname"},
		},
		"password that is escaped": {
			func(req *http.Request) { req.URL.User = url.UserPassword("us3rname", "p4ss w0rd/?#@!") },
			[]string{"p4ss w0rd/?#@!", "p4ss%20w0rd%2F%3F%23%40%21"},
		},
		"user that is escaped": {
			func(req *http.Request) { req.URL.User = url.UserPassword("us3r/n@me", "p4ssw0rd") },
			[]string{"us3r/n@me", "us3r%2Fn%40me", "p4ssw0rd"},
		},
		"user alone":         {func(req *http.Request) { req.URL.User = url.User("s3cr3t-t0k3n") }, []string{"s3cr3t-t0k3n"}},
		"Bearer":             {header("Authorization", "Bearer s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"OAuth":              {header("Authorization", "OAuth s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"bearer with spaces": {header("Authorization", "bearer   s3cr3t-t0k3n  "), []string{"s3cr3t-t0k3n"}},
		"Basic": {
			func(req *http.Request) { req.SetBasicAuth("user", "p4ssw0rd") },
			[]string{"dXNlcjpwNHNzdzByZA==", "p4ssw0rd"},
		},
		"Authorization without a scheme": {header("Authorization", "s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"Authorization in small letters": {header("authorization", "Bearer s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"Proxy-Authorization":            {header("Proxy-Authorization", "Basic c2VjcmV0"), []string{"c2VjcmV0"}},
		"Instagram's token in the body":  body("access_token=IGQVJXs3cr3ts3cr3ts3cr3t", "IGQVJXs3cr3ts3cr3ts3cr3t"),
		"Threads' token in the body":     body("access_token=THAAs3cr3ts3cr3ts3cr3t", "THAAs3cr3ts3cr3ts3cr3t"),
		"an app's token in the body":     body("access_token=123456|s3cr3t", "123456|s3cr3t", "123456%7Cs3cr3t"),
		"name and value in the body":     body("a=b&access_token=s3cr3t", "&access_token=s3cr3t", "access_token%3Ds3cr3t", `{"access_token":"s3cr3t"}`, `{\"app_secret\":\"s3cr3t\"}`),
		"token behind an escape":         body("", "%3DEAAGm0PX4ZCps3cr3t", "%20EAAGm0PX4ZCps3cr3t", "_EAAGm0PX4ZCps3cr3t", "xIGAAs3cr3ts3cr3t", "%3D123456%7Cs3cr3t"),
		"in a path":                      {func(req *http.Request) { req.URL.Path = "/v25.0/106540352242922/messages&appsecret_proof=0123s3cr3t" }, []string{"0123s3cr3t"}},
		"a second query in a value":      {query("redirect=https://example.com/?access_token=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"the same, escaped":              {query("redirect=https%3A%2F%2Fexample.com%2F%3Faccess_token%3Ds3cr3t-t0k3n%26x%3Dy"), []string{"s3cr3t-t0k3n"}},
		"a gateway's key":                {header("D360-Api-Key", "s3cr3t-k3y"), []string{"s3cr3t-k3y"}},
		"another gateway's key":          {header("X-Api-Key", "s3cr3t k3y"), []string{"s3cr3t k3y"}},
		"its token":                      {header("x-gateway-token", "s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"cookies":                        {header("Cookie", "a=b; session=s3cr3t-one; other=s3cr3t-two"), []string{"s3cr3t-one", "s3cr3t-two"}},
		"secret with a quote":            {header("X-Api-Key", `s3cr3t"k3y\`), []string{`s3cr3t"k3y\`, `s3cr3t\"k3y\\`, "s3cr3t%22k3y%5C"}},
		"form, name escaped":             body("a=b&access_%74oken=s3cr3t-t0k3n", "s3cr3t-t0k3n"),
		"form, value escaped":            body("a=b&access_token=s3cr3t+t0k3n%7C", "s3cr3t t0k3n|", "s3cr3t+t0k3n%7C", "s3cr3t+t0k3n%7c"),
		"JSON":                           body(`{"to":"1","access_token"  :`+"\t"+`"s3cr3t-t0k3n"}`, "s3cr3t-t0k3n"),
		"JSON, escaped":                  body(`{"access\u005ft\u006fken":"\u00733cr3t-t0k3n"}`, "s3cr3t-t0k3n"),
		"JSON, a list and a number":      body(`{"api_tokens":["s3cr3t-t0k3n",{"a":7654321}]}`, "s3cr3t-t0k3n", "7654321"),
		"JSON, the PIN":                  body(`{"messaging_product":"whatsapp","pin":"765432"}`, "765432"),
		"multipart, name without quotes": body("--x\r\nContent-Disposition: form-data; name=access_token\r\n\r\ns3cr3t-t0k3n\r\n--x--\r\n", "s3cr3t-t0k3n"),
		"batch in a form":                body("batch="+url.QueryEscape(`[{"relative_url":"me?access_token=s3cr3t-one","body":"client_secret=s3cr3t-two"}]`), "s3cr3t-one", "s3cr3t-two"),
		"batch in JSON":                  body(`{"batch":"[{\"access_token\":\"s3cr3t-t0k3n\"}]"}`, "s3cr3t-t0k3n"),
		"body of another type": {
			func(req *http.Request) {
				req.Body = struct{ io.ReadCloser }{io.NopCloser(strings.NewReader("access_token=s3cr3t-t0k3n"))}
				req.GetBody = func() (io.ReadCloser, error) {
					return io.NopCloser(strings.NewReader("access_token=s3cr3t-t0k3n")), nil
				}
			},
			[]string{"access_token=s3cr3t-t0k3n"},
		},
		"a buffer, already read": {
			func(req *http.Request) {
				buffered, _ := http.NewRequest(http.MethodPost, messagesURL, bytes.NewBufferString("access_token=s3cr3t-t0k3n"))
				_, _ = io.ReadAll(buffered.Body)
				req.Body, req.GetBody = buffered.Body, buffered.GetBody
			},
			[]string{"s3cr3t-t0k3n"},
		},
		"written out with quotes":    body("", `access_token="s3cr3t t0k3n"`, `access_token='s3cr3t t0k3n'`, `'app_secret' => 's3cr3t t0k3n'`, `app_secret = s3cr3t`, `access_token=one's3cr3t`, `access_token=one<s3cr3t`, `access_token=one\s3cr3t`),
		"written out as a header":    body("", "EAAGm0PX4ZCps3cr3t", "X-Api-Key: s3cr3t-k3y", "Authorization: Bearer s3cr3t-t0k3n", "Cookie: a=b; session=s3cr3t", "map[Authorization:[Bearer s3cr3t] X-Api-Key:[s3cr3t-k3y]]", `Authorization: Digest username="m0re", response="s3cr3t"`),
		"written out as JSON":        body("", "EAAGm0PX4ZCps3cr3t", "{\"access_token\"  :\n\"s3cr3t-t0k3n\"}", `{"access_token":["s3cr3t-one"],"x_token":7654321}`, `access_token\u003ds3cr3t`),
		"token with a hyphen":        body("", "IGAA-s3cr3ts3cr3t", "THAAK_s3cr3ts3cr3t", `123456\u007cs3cr3t`, "123456&#124;s3cr3t"),
		"private key":                body("", "privateKey=s3cr3t-k3y", "pwd=s3cr3t", "auth=s3cr3t", "client_assertion=s3cr3t"),
		"access_token in HTML":       {query("access_token=s3cr3t%26t0k3n"), []string{"s3cr3t&amp;t0k3n"}},
		"access_token, small escape": {query("access_token=m%7Cs3cr3t"), []string{"m%7cs3cr3t"}},
		"access_token in brackets":   {query("a[access_token]=s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"scheme in a gateway's key":  {header("X-Auth-Token", "Bearer s3cr3t-t0k3n"), []string{"s3cr3t-t0k3n"}},
		"several keys":               {header("X-Api-Key", "s3cr3t-one, s3cr3t-two"), []string{"s3cr3t-two"}},
		"X-Auth":                     {header("X-Auth", "s3cr3t-one"), []string{"s3cr3t-one"}},
		"trailer":                    {func(req *http.Request) { req.Trailer = http.Header{"X-Secret": {"s3cr3t-one"}} }, []string{"s3cr3t-one"}},
		"fragment":                   {func(req *http.Request) { req.URL.Fragment = "access_token=s3cr3t-t0k3n" }, []string{"s3cr3t-t0k3n"}},
		"path with a blank": {func(req *http.Request) {
			req.URL.Path = "/v25.0/106540352242922/messages&appsecret_proof=0123 s3cr3t/m0re"
		}, []string{"0123 s3cr3t/m0re", "0123%20s3cr3t%2Fm0re"}},
		"in the body": {
			func(req *http.Request) {
				body := "access_token=EAAGm0PX4ZCpsBAKZCZBs3cr3t"
				req.Body = io.NopCloser(strings.NewReader(body))
				req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
			},
			[]string{"EAAGm0PX4ZCpsBAKZCZBs3cr3t"},
		},
	}
}
