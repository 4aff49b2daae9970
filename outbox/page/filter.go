package page

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

// filter selects the messages of a list, and those of a decision.
type filter struct {
	outbox.Filter
	// Older is OlderThan as the user has written it, and CodeText is Code.
	Older, CodeText string
}

// filterOf reads a filter. An empty field means nothing, since a form sends all of its fields.
func filterOf(values url.Values) (filter, error) {
	var f filter
	var errs []string
	for _, name := range values["state"] {
		switch state := outbox.State(name); {
		case name == "":
		case !slices.Contains(states, state):
			errs = append(errs, fmt.Sprintf("there is no state %q: want one of queued, sending, sent, failed, unknown", name))
		case !slices.Contains(f.States, state):
			f.States = append(f.States, state)
		}
	}
	f.PhoneNumberID, f.Label, f.After = strings.TrimSpace(values.Get("number")), values.Get("label"), values.Get("after")
	if strings.Trim(f.PhoneNumberID, "0123456789") != "" {
		errs = append(errs, fmt.Sprintf("the phone number ID is %q: want digits", f.PhoneNumberID))
	}
	if f.CodeText = strings.TrimSpace(values.Get("code")); f.CodeText != "" {
		code, err := strconv.ParseInt(f.CodeText, 10, 32)
		if err != nil || code <= 0 {
			errs = append(errs, fmt.Sprintf("the code is %q: want a number above 0, as in 131026", f.CodeText))
		}
		f.Code = graphretry.Code(code)
	}
	if f.Older = strings.TrimSpace(values.Get("older")); f.Older != "" {
		age, err := words.ParseAge(f.Older)
		if err != nil || age < 0 {
			errs = append(errs, fmt.Sprintf("the age is %q: want a time such as 90s, 10m, 2h or 3d", f.Older))
		}
		f.OlderThan = age
	}
	if len(errs) > 0 {
		return f, wrong{http.StatusBadRequest, "This filter is not valid", capital(strings.Join(errs, "; ")) + "."}
	}
	return f, nil
}

// values returns the fields of the filter, without the beginning of its page.
func (f filter) values() url.Values {
	v := url.Values{}
	for _, state := range f.States {
		v.Add("state", string(state))
	}
	for name, text := range map[string]string{"number": f.PhoneNumberID, "label": f.Label, "code": f.CodeText, "older": f.Older} {
		if text != "" {
			v.Set(name, text)
		}
	}
	return v
}

// Query returns the filter as the query of a URL.
func (f filter) Query() string { return f.values().Encode() }

// Has reports whether a state is chosen.
func (f filter) Has(state outbox.State) bool { return slices.Contains(f.States, state) }

// IsEmpty reports whether it matches all messages.
func (f filter) IsEmpty() bool { return len(f.values()) == 0 }

// String returns the filter in words.
func (f filter) String() string {
	var parts []string
	if len(f.States) > 0 {
		var names []string
		for _, state := range f.States {
			names = append(names, string(state))
		}
		parts = append(parts, strings.Join(names, " or "))
	}
	if f.PhoneNumberID != "" {
		parts = append(parts, "from number "+f.PhoneNumberID)
	}
	if f.Label != "" {
		parts = append(parts, fmt.Sprintf("with the label “%s”", words.Plain(f.Label)))
	}
	if f.CodeText != "" {
		parts = append(parts, "with the code "+f.CodeText)
	}
	if f.Older != "" {
		parts = append(parts, "enqueued "+f.Older+" ago or earlier")
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, ", ")
}
