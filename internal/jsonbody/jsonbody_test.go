package jsonbody

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatStandsAroundTheJSONIsTrimmed(t *testing.T) {
	for body, want := range map[string]string{
		"\ufeff{}": "{}", "{}\x00 \r\n\t\v\f": "{}", "{}": "{}", "": "", "\ufeff\ufeff{}": "\ufeff{}", " {}": " {}", "\x00{}": "\x00{}",
	} {
		assert.Equal(t, want, string(Trim([]byte(body))), "%q", body)
	}
}
