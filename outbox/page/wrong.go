package page

import (
	"net/http"
	"strings"
)

// wrong is an error that the user sees on a page.
type wrong struct {
	status       int
	title, cause string
}

func (e wrong) Error() string { return e.title + ": " + e.cause }

var errCrossOrigin = wrong{http.StatusForbidden, "This form came from another site", "Nothing was changed. Forms must be sent from these pages."}

// sentence returns the text of an error as a sentence.
func sentence(err error) string {
	text := strings.TrimPrefix(err.Error(), "outbox: ")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
