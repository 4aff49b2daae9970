package outbox_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox"
)

func TestBadMessageIsRefused(t *testing.T) {
	b := newHarness(t)
	good := string(payload("hello"))
	for _, row := range []struct{ id, phone, payload, want string }{
		{"", phoneNumberID, good, "outbox: the id is empty"},
		{strings.Repeat("x", 257), phoneNumberID, good, "outbox: the id has 257 bytes: want at most 256"},
		{"\xff", phoneNumberID, good, "not valid UTF-8"},
		{"a\x00b", phoneNumberID, good, "has a NUL"},
		{"a", phoneNumberID, "{\"to\":\"\xff\"}", "the payload is not valid UTF-8"},
		{"a", "", good, `outbox: message "a": the phone number ID ""`},
		{"a", "+15550001111", good, `the phone number ID "+15550001111": want the digits of the id`},
		{"a", "1/../2", good, "the phone number ID"},
		{"a", phoneNumberID, "", "the payload is not a JSON object"},
		{"a", phoneNumberID, "null", "the payload is not a JSON object"},
		{"a", phoneNumberID, `"text"`, "the payload is not a JSON object"},
		{"a", phoneNumberID, `[{}]`, "the payload is not a JSON object"},
		{"a", phoneNumberID, `{"to":1}{}`, "the payload is not a JSON object"},
		{"a", phoneNumberID, `{"to":`, "the payload is not a JSON object"},
		{"a", phoneNumberID, `{"biz_opaque_callback_data":"mine"}`, "biz_opaque_callback_data of its own"},
		{"a", phoneNumberID, `{"biz_opaque_callback_data":7}`, "biz_opaque_callback_data of its own"},
		{"a", phoneNumberID, `{"x":"` + strings.Repeat("x", 1<<20) + `"}`, "want a shorter payload"},
	} {
		err := b.Enqueue(t.Context(), row.id, row.phone, []byte(row.payload))
		if assert.ErrorContains(t, err, row.want) {
			assert.True(t, strings.HasPrefix(err.Error(), "outbox: "), err)
		}
	}
	_, err := b.Status(t.Context(), "a")
	require.ErrorIs(t, err, outbox.ErrNotFound)
	assert.ErrorContains(t, err, `"a"`)
	assert.ErrorIs(t, b.Resend(t.Context(), "a"), outbox.ErrNotFound)
	assert.ErrorIs(t, b.Drop(t.Context(), "a"), outbox.ErrNotFound)
	for _, id := range []string{"", strings.Repeat("x", 257)} {
		_, err = b.Status(t.Context(), id)
		assert.ErrorContains(t, err, "outbox: the id")
	}
	b.queueIsEmpty()
}

func TestPayloadArrivesAsItWas(t *testing.T) {
	b := newHarness(t)
	for id, payload := range map[string]string{
		strings.Repeat("é", 128):  `{"messaging_product":"whatsapp","to":15550001111,"type":"text","text":{"body":"a <b> & c  d"},"n":1.50e300}`,
		`quote " backslash \ <&>`: "  {\n \"to\" : \"1\" , \"messaging_product\":\"whatsapp\"}\n",
		"has it already":          `{"biz_opaque_callback_data":"has it already","messaging_product":"whatsapp","to":"1"}`,
	} {
		require.NoError(t, b.Enqueue(t.Context(), id, phoneNumberID, []byte(payload)))
	}
	run(t, b.Outbox)
	for _, id := range []string{strings.Repeat("é", 128), `quote " backslash \ <&>`, "has it already"} {
		b.becomes(id, outbox.StateSent)
	}
	for _, m := range b.api.Accepted() {
		switch m.CallbackData {
		case strings.Repeat("é", 128):
			assert.JSONEq(t, `{"biz_opaque_callback_data":"`+m.CallbackData+`","messaging_product":"whatsapp","to":15550001111,"type":"text","text":{"body":"a <b> & c  d"},"n":1.50e300}`, string(m.Body))
			assert.Contains(t, string(m.Body), "1.50e300", "numbers are not rewritten")
		case "has it already":
			assert.Equal(t, 1, strings.Count(string(m.Body), "biz_opaque_callback_data"))
		}
	}
	assert.Len(t, b.api.Accepted(), 3)
}

func TestSecondMessageWithTheSameIDIsPassedOver(t *testing.T) {
	b := newHarness(t)
	require.NoError(t, b.Enqueue(t.Context(), "a", phoneNumberID, payload("the first one counts")))
	run(t, b.Outbox)
	b.becomes("a", outbox.StateSent)
	require.NoError(t, b.Enqueue(t.Context(), "a", "42", payload("the second")))
	b.queueIsEmpty()
	require.Len(t, b.api.Accepted(), 1)
	assert.Contains(t, string(b.api.Accepted()[0].Body), "the first one counts")
}

// Callers on any machine that enqueue the same id at the same moment put one message into the
// queue.
func TestSameIDFromManyAtOnceIsOneMessage(t *testing.T) {
	b := newHarness(t)
	run(t, b.Outbox)
	errs := make(chan error)
	for range 20 {
		go func() { errs <- b.Enqueue(t.Context(), "a", phoneNumberID, payload("a")) }()
	}
	for range 20 {
		require.NoError(t, <-errs)
	}
	b.becomes("a", outbox.StateSent)
	b.queueIsEmpty()
	assert.Equal(t, []string{"a"}, b.api.AcceptedKeys())
}

func TestBadOptionIsRefused(t *testing.T) {
	database := newPlace(t).open(t)
	for want, opt := range map[string]outbox.Option{
		`WithName(""): want 1 to 40 lower-case letters`: outbox.WithName(""),
		`WithName("a.b")`:                               outbox.WithName("a.b"),
		`WithName("A")`:                                 outbox.WithName("A"),
		`WithName("a\"; DROP TABLE x")`:                 outbox.WithName(`a"; DROP TABLE x`),
		`WithMaxQueued(0): want 1 or more`:              outbox.WithMaxQueued(0),
		`WithRetention(1s): want at least 1m`:           outbox.WithRetention(time.Second),
		`WithMaxAge(0s): want more than 0`:              outbox.WithMaxAge(0),
		`WithMaxAge(24h0m0s) is above WithRetention`:    outbox.WithRetention(time.Hour),
		`WithMaxAge(744h0m0s) is above WithRetention`:   outbox.WithMaxAge(31 * 24 * time.Hour),
		`WithAttemptTimeout(-1ns): want more than 0`:    outbox.WithAttemptTimeout(-1),
		`WithWorkers(0): want 1 to 1000`:                outbox.WithWorkers(0),
		`WithBaseURL: want a URL such as`:               outbox.WithBaseURL("graph.facebook.com"),
		`without user, query or fragment`:               outbox.WithBaseURL("https://graph.facebook.com/v25.0?access_token=SECRET"),
		`WithAccessToken: want a token of visible`:      outbox.WithAccessToken("two words"),
		`WithLogger(nil): want a logger`:                outbox.WithLogger(nil),
		`graphretry: WithInitialInterval(0s)`:           outbox.WithTransportOptions(graphretry.WithInitialInterval(0)),
		`code 100 (Invalid parameter) is never retried`: outbox.WithTransportOptions(graphretry.WithRetryOn(100, 1)),
	} {
		_, err := outbox.Open(t.Context(), database, nil, opt)
		if assert.ErrorContains(t, err, want) {
			assert.NotContains(t, err.Error(), "SECRET")
		}
	}
	_, err := outbox.Open(t.Context(), outbox.Database{}, nil, outbox.WithWorkers(0), outbox.WithName(""))
	assert.ErrorContains(t, err, "the Database is empty")
	assert.ErrorContains(t, err, "WithWorkers")
	assert.ErrorContains(t, err, "WithName", "all that is wrong is told at once")

	o, err := outbox.Open(t.Context(), database, http.DefaultTransport, outbox.Option{}, outbox.WithLogger(slog.Default()))
	require.NoError(t, err, "the zero Option sets nothing")
	require.NoError(t, o.Close())
}

func TestOutboxesOfDifferentNamesAreApart(t *testing.T) {
	b := newHarness(t)
	other := b.open(nil, outbox.WithName("other"))
	require.NoError(t, other.Enqueue(t.Context(), "a", phoneNumberID, payload("a")))
	_, err := b.Status(t.Context(), "a")
	assert.ErrorIs(t, err, outbox.ErrNotFound)
}
