package words

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/graphretry/graphretry"
)

// graphText finds Meta's error in a reason, as Error.Error and Decision.Cause write it.
var graphText = regexp.MustCompile(`Graph error (\d+)(?:, subcode (\d+))?`)

// implied are reasons that say no more than the state does.
var implied = []string{graphretry.ReasonNotRetried.String(), graphretry.ReasonNever.String()}

// Why returns why a message is in its state, or why a number is held: Meta's title and code
// first, then the rest. reason is the one that the outbox gives, and e is Meta's error, nil if
// there is none or if only the reason has it.
func Why(reason string, e *graphretry.Error) string {
	head, said := Reason(reason, e)
	return strings.TrimSuffix(head+": "+said, ": ")
}

// Reason returns the same in two parts: the reason in few words, and what else Meta said.
// Without an error of Meta, head is the beginning of the reason.
func Reason(reason string, e *graphretry.Error) (head, said string) {
	reason = Clean(reason)
	before, after := around(reason)
	if e != nil {
		if said = Line(e.Details); said == "" {
			said = Line(e.Message)
		}
	} else {
		found := graphText.FindStringSubmatch(reason)
		if found == nil {
			head, said, _ = strings.Cut(reason, ": ")
			return head, said
		}
		code, _ := strconv.Atoi(found[1])
		subcode, _ := strconv.Atoi(found[2])
		e = &graphretry.Error{Code: graphretry.Code(code), Subcode: subcode}
		said = strings.TrimPrefix(strings.TrimPrefix(after, " ("+Title(e)+")"), ": ")
	}
	if isTitle(said, e) {
		said = ""
	}
	return withTitle(e, before), said
}

// isTitle reports whether a text says no more than the title and the code of an error.
func isTitle(said string, e *graphretry.Error) bool {
	said = strings.TrimPrefix(said, fmt.Sprintf("(#%d) ", e.Code))
	return strings.EqualFold(strings.TrimSuffix(said, "."), Title(e))
}

// withTitle returns Meta's title and code, and then what decided.
func withTitle(e *graphretry.Error, before string) string {
	text := fmt.Sprintf("%s (%d)", Title(e), e.Code)
	before = strings.Trim(before, " :")
	for _, reason := range implied {
		before = strings.Trim(strings.TrimSuffix(before, reason), " :")
	}
	if before != "" {
		text += ", " + strings.ReplaceAll(before, ": ", ", ")
	}
	return text
}

// around returns the parts of a reason before Meta's error and after its code. before is the
// whole reason if it has no such error.
func around(reason string) (before, after string) {
	at := graphText.FindStringIndex(reason)
	if at == nil {
		return reason, ""
	}
	return reason[:at[0]], reason[at[1]:]
}

// traceID is the end of what Meta said. It is shown separately.
var traceID = regexp.MustCompile(` \[fbtrace_id [^]]*\]$`)

// Clean returns a reason on one line, without the prefix of the package and the fbtrace_id.
func Clean(reason string) string {
	return traceID.ReplaceAllString(strings.ReplaceAll(Line(reason), "graphretry: ", ""), "")
}
