package main

import (
	"fmt"
	"time"

	"github.com/graphretry/graphretry/outbox"
)

// look is what top shows at one time.
type look struct {
	at    time.Time // by the database's clock
	stats outbox.Stats
	// perSecond is how many messages a second were sent since the look before, by phone number,
	// and for all with "". It is nil the first time.
	perSecond map[string]float64
	// oldest are the messages that are longest in the queue. recent are those that have become
	// failed or unknown last.
	oldest, recent []outbox.Status
}

// rate returns the messages a second of a phone number, or of all with "", as a text.
func (l *look) rate(number string) string {
	if l.perSecond == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", l.perSecond[number])
}

// topDocument is a look, as -json prints it.
type topDocument struct {
	statsDocument
	SentPerSecond *float64          `json:"sent_per_second,omitempty"`
	Oldest        []messageDocument `json:"oldest_queued"`
	Recent        []messageDocument `json:"last_failed_or_unknown"`
}

func (l *look) document() topDocument {
	document := topDocument{statsDocument: statsDocumentOf(l.stats, l.at), Oldest: []messageDocument{}, Recent: []messageDocument{}}
	if l.perSecond != nil {
		all := l.perSecond[""]
		document.SentPerSecond = &all
		for number, n := range document.Numbers {
			this := l.perSecond[number]
			n.SentPerSecond = &this
			document.Numbers[number] = n
		}
	}
	for _, s := range l.oldest {
		document.Oldest = append(document.Oldest, documentOf(s, why(s, l.stats, l.at)))
	}
	for _, s := range l.recent {
		document.Recent = append(document.Recent, documentOf(s, why(s, l.stats, l.at)))
	}
	return document
}
