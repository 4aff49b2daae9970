package words_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

func TestReasonBeginsWithMetasTitle(t *testing.T) {
	said := func(code graphretry.Code, details string) *graphretry.Error {
		return &graphretry.Error{Code: code, Message: "(#1) a message", Details: details, TraceID: "AbC"}
	}
	policy, err := graphretry.NewPolicy()
	assert.NoError(t, err)
	cause := func(e *graphretry.Error) string { return policy.Decide(e, graphretry.History{}).Cause }
	for _, this := range []struct {
		reason string
		graph  *graphretry.Error
		want   string
	}{
		{"", nil, ""},
		{"dropped", nil, "dropped"},
		{"may have been carried out: EOF", nil, "may have been carried out: EOF"},
		{cause(said(131026, "")), said(131026, ""), "Message Undeliverable (131026): (#1) a message"},
		{cause(said(131026, "the recipient")), said(131026, "the recipient"), "Message Undeliverable (131026): the recipient"},
		{"x", said(131026, "Message undeliverable."), "Message Undeliverable (131026), x"},
		{"no retries left: " + said(131000, "").Error(), said(131000, "d"), "Something went wrong (131000), no retries left: d"},
		{"older than the maximum age: temporary failure: " + said(2, "").Error(), said(2, "d"),
			"API Service (2), older than the maximum age, temporary failure: d"},
		{"", said(7777, "d"), "(#1) a message (7777): d"},
		{"refused: " + said(190, "expired on Friday").Error(), nil, "Access token has expired (190), refused: (#1) a message: expired on Friday"},
		{"", &graphretry.Error{Code: 190, Message: "(#190) Access token has expired"}, "Access token has expired (190)"},
		{"graphretry: Graph error 190 (Access token has expired): (#190) Access token has expired [fbtrace_id AbC]", nil, "Access token has expired (190)"},
		{"graphretry: Graph error 190, subcode 463 (Access token has expired): (#100) Access token has expired", nil, "Access token has expired (190): (#100) Access token has expired"},
	} {
		assert.Equal(t, this.want, words.Why(this.reason, this.graph))
	}
}
