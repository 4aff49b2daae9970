package main

import (
	"time"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
)

// These are what -json prints. Their names stay the same in later versions; more may come.

// messageDocument is a message.
type messageDocument struct {
	ID            string       `json:"id"`
	PhoneNumberID string       `json:"phone_number_id"`
	Label         string       `json:"label,omitempty"`
	State         outbox.State `json:"state"`
	// Why is what top prints as the reason.
	Why                 string        `json:"why,omitempty"`
	Reason              string        `json:"reason,omitempty"`
	Graph               graphDocument `json:"graph,omitempty"`
	Retries             int           `json:"retries"`
	MessageID           string        `json:"message_id,omitempty"`
	ParticipantFailures int           `json:"participant_failures,omitempty"`
	ParticipantGraph    graphDocument `json:"participant_graph,omitempty"`
	EnqueuedAt          time.Time     `json:"enqueued_at"`
	ChangedAt           time.Time     `json:"changed_at"`
	NotBefore           time.Time     `json:"not_before,omitzero"`
	DeliveredAt         time.Time     `json:"delivered_at,omitzero"`
	ReadAt              time.Time     `json:"read_at,omitzero"`
}

func documentOf(s outbox.Status, why string) messageDocument {
	return messageDocument{
		ID: s.ID, PhoneNumberID: s.PhoneNumberID, Label: s.Label, State: s.State, Why: why, Reason: s.Reason,
		Graph: graphDocumentOf(s.Graph), Retries: s.Retries, MessageID: s.MessageID,
		ParticipantFailures: s.ParticipantFailures, ParticipantGraph: graphDocumentOf(s.ParticipantGraph),
		EnqueuedAt: s.Enqueued, ChangedAt: s.Changed, NotBefore: s.NotBefore, DeliveredAt: s.Delivered, ReadAt: s.Read,
	}
}

// graphDocument is Meta's error. Its names are those of a log line beneath "graph".
type graphDocument map[string]any

func graphDocumentOf(e *graphretry.Error) graphDocument {
	if e == nil {
		return nil
	}
	document := make(graphDocument)
	for _, attribute := range e.LogValue().Group() {
		document[attribute.Key] = attribute.Value.Any()
	}
	return document
}

// statsDocument is what is in an outbox.
type statsDocument struct {
	At           time.Time                 `json:"at"`
	States       counts                    `json:"states"`
	WaitingSince time.Time                 `json:"waiting_since,omitzero"`
	Paused       bool                      `json:"paused"`
	HeldFor      string                    `json:"held_for,omitempty"`
	NextProbeAt  time.Time                 `json:"next_probe_at,omitzero"`
	Numbers      map[string]numberDocument `json:"numbers"`
	Labels       map[string]counts         `json:"labels"`
	Runs         []runDocument             `json:"runs"`
}

// counts are how many messages there are in each state.
type counts struct {
	Queued  int `json:"queued"`
	Sending int `json:"sending"`
	Sent    int `json:"sent"`
	Failed  int `json:"failed"`
	Unknown int `json:"unknown"`
}

func countsOf(n map[outbox.State]int) counts {
	return counts{n[outbox.StateQueued], n[outbox.StateSending], n[outbox.StateSent], n[outbox.StateFailed], n[outbox.StateUnknown]}
}

// numberDocument is a phone number.
type numberDocument struct {
	States      counts    `json:"states"`
	Paused      bool      `json:"paused"`
	HeldFor     string    `json:"held_for,omitempty"`
	NextProbeAt time.Time `json:"next_probe_at,omitzero"`
	// Share is the part of its rate that it uses.
	Share float64 `json:"share"`
	// SentPerSecond is how many messages it has sent a second since the look before. stats and
	// the first look of top do not have it.
	SentPerSecond *float64 `json:"sent_per_second,omitempty"`
}

// runDocument is a Run. Its id is a text, since JavaScript has no numbers of that size.
type runDocument struct {
	ID            int64     `json:"id,string"`
	BeganAt       time.Time `json:"began_at"`
	Messages      int       `json:"messages"`
	SilentSeconds float64   `json:"silent_s"`
	Dead          bool      `json:"dead"`
}

func statsDocumentOf(stats outbox.Stats, at time.Time) statsDocument {
	document := statsDocument{
		At: at, States: countsOf(stats.States), WaitingSince: stats.WaitingSince, Paused: stats.Paused, HeldFor: stats.HeldFor,
		NextProbeAt: stats.NextProbe, Numbers: make(map[string]numberDocument), Labels: make(map[string]counts), Runs: []runDocument{},
	}
	for number, n := range stats.Numbers {
		document.Numbers[number] = numberDocument{States: countsOf(n.States), Paused: n.Paused, HeldFor: n.HeldFor, NextProbeAt: n.NextProbe, Share: n.Share}
	}
	for label, n := range stats.Labels {
		document.Labels[label] = countsOf(n)
	}
	for _, run := range stats.Runs {
		document.Runs = append(document.Runs, runDocument{run.ID, run.Began, run.Messages, run.Silent.Seconds(), run.Dead})
	}
	return document
}
