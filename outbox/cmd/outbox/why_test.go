package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
)

func TestQueuedMessageSaysWhatItWaitsFor(t *testing.T) {
	now := time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)
	alive := []outbox.RunStats{{ID: 1}}
	held := map[string]outbox.NumberStats{number: {HeldFor: "graphretry: Graph error 190 (Access token has expired): a message [fbtrace_id A]", NextProbe: now.Add(2 * time.Minute)}}
	retried := outbox.Status{Reason: "temporary failure: Graph error 2 (API Service): m", Graph: &graphretry.Error{Code: 2, Message: "m"}, NotBefore: now.Add(30 * time.Second)}
	for _, this := range []struct {
		s     outbox.Status
		stats outbox.Stats
		want  string
	}{
		{outbox.Status{}, outbox.Stats{Runs: alive}, "waits for its turn"},
		{outbox.Status{}, outbox.Stats{Runs: []outbox.RunStats{{Dead: true}}}, "no Run is alive"},
		{outbox.Status{}, outbox.Stats{Runs: alive, Paused: true}, "all numbers are paused"},
		{outbox.Status{}, outbox.Stats{Runs: alive, Numbers: map[string]outbox.NumberStats{number: {Paused: true}}}, "its number is paused"},
		{outbox.Status{}, outbox.Stats{Runs: alive, Numbers: held}, "Access token has expired (190); its number is held: a message"},
		{outbox.Status{}, outbox.Stats{Runs: alive, HeldFor: "HTTP status 503 and no Graph error"}, "HTTP status 503 and no Graph error; all numbers are held"},
		{outbox.Status{NotBefore: now.Add(3 * time.Hour)}, outbox.Stats{Runs: alive}, "due in 3h"},
		{retried, outbox.Stats{Runs: alive}, "API Service (2), temporary failure; next attempt in 30s: m"},
		{retried, outbox.Stats{Runs: alive, Numbers: held}, "API Service (2), temporary failure; its number is held: m"},
	} {
		this.s.State, this.s.PhoneNumberID = outbox.StateQueued, number
		assert.Equal(t, this.want, why(this.s, this.stats, now))
	}
}

func TestNumberSaysWhyItsMessagesWait(t *testing.T) {
	now := time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)
	assert.Empty(t, whyNumber(outbox.NumberStats{Share: 1}, now))
	assert.Equal(t, "Access token has expired (190); held, next probe in 2m: m", whyNumber(outbox.NumberStats{
		Share: 1, HeldFor: "Graph error 190, subcode 463 (Access token has expired): m [fbtrace_id A]", NextProbe: now.Add(2 * time.Minute)}, now))
	assert.Equal(t, "paused by a person; at 40 % of its rate, since Meta has asked for less", whyNumber(outbox.NumberStats{Paused: true, Share: 0.4}, now))
	assert.Equal(t, "paused by a person; x; held; no Run is alive, so nothing is sent",
		whyAll(outbox.Stats{Paused: true, HeldFor: "x", States: map[outbox.State]int{outbox.StateQueued: 1}}, now))
	assert.Empty(t, whyAll(outbox.Stats{}, now), "there is nothing to send")
}
