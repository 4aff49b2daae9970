package redact

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// blank stands where a secret stood.
const blank = "[REDACTED]"

// pattern is a regular expression that is compiled on first use: only a failure needs
// one, and a program that has none does not pay for them as it starts.
type pattern struct {
	expression string

	once     sync.Once
	compiled *regexp.Regexp
}

func (p *pattern) regexp() *regexp.Regexp {
	p.once.Do(func() { p.compiled = regexp.MustCompile(p.expression) })
	return p.compiled
}

// blankIn blanks what the pattern finds in a text, but for its first group.
func (p *pattern) blankIn(text string) string {
	return p.regexp().ReplaceAllString(text, "${1}"+blank)
}

// (b) What has the form of one of Meta's tokens, wherever it stands.
var (
	// metaToken finds Meta's access tokens: those of Facebook (EAA...), Instagram
	// (IGQV..., IGAA...) and Threads (THQV..., THAA...), and an app's own, which is
	// its ID and its secret. They can begin in the middle of a word, as behind %3D.
	metaToken = pattern{expression: `EAA[0-9A-Za-z_-]{12,}|(?:IG|TH)(?:AA|Q[A-Z])[0-9A-Za-z_-]{8,}|` +
		`(?:IG|TH)[A-Z]{2,}[0-9a-z][0-9A-Za-z_-]{8,}|` +
		`[0-9]{5,}(?:\||%(?:25)*7[Cc]|\\u007[Cc]|&#124;)[0-9A-Za-z_-]{4,}`}
)

// (c) The value of a name that says secret, in any text.
var (
	// namedValue finds the value of a name that says secret, as in a query, a form or
	// a path, escaped or not, or as a program writes it, with quotes or blanks.
	namedValue = pattern{expression: `(?i)(` + nameOfSecret + `(?:["']? => | = |=|%(?:25)*3D|\\u003d|&#61;))` +
		`((?:\\*"[^"]*"?|'[^']*'?)?[^\s&"]*)`}
	// jsonValue finds it in JSON, jsonOther where it is not a string, and escapedValue
	// in JSON inside a string.
	jsonValue    = pattern{expression: `(?i)("` + nameOfSecret + `"\s*:\s*")((?:[^"\\]|\\.)+)`}
	jsonOther    = pattern{expression: `(?i)("` + nameOfSecret + `"\s*:\s*)(\[[^\]]*|[0-9][^\s,}\]]*)`}
	escapedValue = pattern{expression: `(?i)(\\"` + nameOfSecret + `\\"\s*:\s*\\")([^"\\]+)`}
	// fieldValue finds it in a header that was written out. A name of one word is left
	// alone, since Meta says "Error validating access token: Session has expired".
	fieldValue = pattern{expression: `(?i)((?:[\w.-]*[_-](?:` + wordOfSecret + `|key)[\w.-]*|[\w.-]*(?:` + wordOfSecret + `)[_-][\w.-]*|` +
		`\bauthorization|\bcookie)\s?:\s?\[?)((?:bearer |basic |oauth |digest .*)?[^\s"\]]+)`}
	// cookieValue finds all of a header of cookies, which has blanks in it.
	cookieValue = pattern{expression: `(?i)(\b(?:set-)?cookie\s?:\s?\[?)([^\r\n\]]+)`}

	// userinfo finds the user and the password in a URL, such as a proxy's.
	userinfo = pattern{expression: `://[^\s/?#"]+@`}

	// urlWithQuery finds a URL up to the end of its query, also of one between
	// quotes, as [net/url.Error]
	// has it, where a quote in the query has a backslash before it.
	urlWithQuery = pattern{expression: `"\w[\w+.-]*://[^\s?#"]*\?(?:\\.|[^"\\])*"?|://[^\s?#"]*\?\S*`}
)

const (
	// wordOfSecret matches what says secret in a name.
	wordOfSecret = `token|secret|proof|passw(?:or)?d|signature|signed_request|credential|assertion|authorization|cookie`
	// nameOfSecret matches a name that says secret, such as access_token,
	// appsecret_proof, client_secret and api_key.
	nameOfSecret = `(?:[\w.%\[\]-]*(?:` + wordOfSecret + `|(?:api|private|access)key)[\w.%\[\]-]*?|` +
		`(?:[\w.%\[\]-]*[_-]|\b)key|\b(?:pwd|auth|jwt))`
)

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
