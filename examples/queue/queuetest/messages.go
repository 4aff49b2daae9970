package queuetest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/graphretry/graphretry/graphtest"
)

// kind is what the API does with a message while nothing else is wrong.
type kind int

const (
	plain       kind = iota // accepts it
	onceWrong               // answers 131000 once, then accepts it
	alwaysWrong             // answers 131000 to each call
	bad                     // answers 131009
	html                    // answers with a gateway's HTML page
	htmlSent                // accepts it, and answers with a gateway's HTML page
	broken                  // breaks the connection
	brokenSent              // accepts it, and breaks the connection
)

// kindOf returns the kind of the message with a number. Of 100 messages, 92 are to be
// accepted and 4 to be parked.
func kindOf(number int) kind {
	switch number % 100 {
	case 0, 50:
		return alwaysWrong
	case 11:
		return html
	case 22:
		return htmlSent
	case 33:
		return broken
	case 44:
		return brokenSent
	case 15, 45, 65, 95:
		return bad
	case 7, 27, 67, 87:
		return onceWrong
	}
	return plain
}

// isSent reports whether the API accepts a message of this kind.
func (k kind) isSent() bool { return k == plain || k == onceWrong || k == htmlSent || k == brokenSent }

// isParked reports whether nobody but the API knows what became of it.
func (k kind) isParked() bool {
	return k == html || k == htmlSent || k == broken || k == brokenSent
}

// answer returns what a call gets, after so many answers of 131000.
func (k kind) answer(wrong int) graphtest.Answer {
	switch {
	case k == alwaysWrong, k == onceWrong && wrong == 0:
		return graphtest.Answer{Code: 131000}
	case k == bad:
		return graphtest.Answer{Code: 131009}
	case k == html, k == htmlSent:
		return graphtest.Answer{Status: http.StatusBadGateway, Accept: k.isSent()}
	case k == broken, k == brokenSent:
		return graphtest.Answer{Fault: graphtest.FaultBreak, Accept: k.isSent()}
	}
	return graphtest.Answer{}
}

// textOf returns the text of the message with a number, by which the API knows it.
func textOf(number int) string { return fmt.Sprintf("message %d", number) }

// numberOf returns the number of a message.
func numberOf(text string) (int, error) {
	return strconv.Atoi(strings.TrimPrefix(text, "message "))
}
