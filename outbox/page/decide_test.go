package page_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox"
)

func TestOneMessageIsDecidedForAndLoggedWithTheUser(t *testing.T) {
	d := newDesk(t)
	d.Add("a")
	for _, step := range []struct {
		verb  string
		after outbox.State
		says  string
	}{
		{"park", outbox.StateUnknown, "1 message was parked."},
		{"resend", outbox.StateQueued, "1 message was put back into the queue."},
		{"drop", outbox.StateFailed, "1 message was dropped."},
		{"delete", "", "1 message was deleted."},
	} {
		asked := d.get("confirm?verb=" + step.verb + "&id=a")
		assert.Contains(t, words(asked), "1 message?")
		got := d.agree("verb=" + step.verb + "&id=a")
		assert.Equal(t, http.StatusOK, got.StatusCode)
		assert.Contains(t, got.body, step.says)
		assert.Equal(t, http.MethodGet, got.Request.Method, "a reload does nothing again")
		assert.Equal(t, step.after, d.State("a"), step.verb)
		assert.Regexp(t, `level=INFO msg="outbox: a person has decided" user.name=ana graphretry.outbox.decision=`+step.verb+` graphretry.outbox.message_id=a\n`, d.log.String())
	}
}

func TestDecisionThatTheStateDoesNotAllowSaysSo(t *testing.T) {
	d := newDesk(t)
	d.becomes("sent", outbox.StateSent)
	for _, verb := range []string{"drop", "resend", "park"} {
		got := d.do(http.MethodPost, "decide", url.Values{"verb": {verb}, "id": {"sent"}})
		assert.Equal(t, http.StatusConflict, got.StatusCode, verb)
		assert.Contains(t, got.body, "it is sent")
	}
	assert.Contains(t, d.log.String(), `level=WARN msg="outbox: what a person has decided was not done, or not all"`)
	got := d.do(http.MethodPost, "decide", url.Values{"verb": {"drop"}, "id": {"gone"}})
	assert.Equal(t, http.StatusNotFound, got.StatusCode)
	assert.Equal(t, outbox.StateSent, d.State("sent"))
}

func TestManyAreDecidedForByACountThatTheUserHasSeen(t *testing.T) {
	d := newDesk(t)
	require.NoError(t, d.Pause(t.Context(), ""))
	campaign := func(from, to int) {
		for i := from; i < to; i++ {
			require.NoError(t, d.Enqueue(t.Context(), fmt.Sprint("june-", i), number, []byte(payload), outbox.Label("june")))
		}
	}
	campaign(0, 12)
	d.Add("other")
	last, err := d.Status(t.Context(), "other")
	require.NoError(t, err)
	for !d.Now().After(last.Enqueued) { // Now is a little late
		time.Sleep(time.Millisecond)
	}
	asked := d.get("confirm?verb=drop&label=june")
	assert.Contains(t, words(asked), "Drop 12 messages?")
	assert.Contains(t, words(asked), "queued or unknown, with the label “june”")

	campaign(12, 14)
	got := d.do(http.MethodPost, "decide", fields(asked), "X-User", "ana")
	assert.Contains(t, got.body, "12 messages were dropped.")
	assert.Equal(t, outbox.StateFailed, d.State("june-11"))
	assert.Equal(t, outbox.StateQueued, d.State("june-12"), "it was enqueued after the user was asked")
	assert.Equal(t, outbox.StateQueued, d.State("other"))
	assert.Contains(t, d.log.String(), `user.name=ana graphretry.outbox.decision=drop graphretry.outbox.messages=12 graphretry.outbox.filter="queued or unknown, with the label “june”"`)

	// There are more meanwhile: the user is asked again.
	asked = d.get("confirm?verb=resend&label=june")
	require.NoError(t, d.Drop(t.Context(), "june-12"))
	d.passes()
	got = d.do(http.MethodPost, "decide", fields(asked))
	assert.Contains(t, words(got.body), "Resend 13 messages?")
	assert.Contains(t, got.body, "Nothing was changed: there were 12 when you were asked")
	assert.Equal(t, outbox.StateFailed, d.State("june-0"))
	got = d.do(http.MethodPost, "decide", fields(got.body))
	assert.Contains(t, got.body, "13 messages were put back into the queue.")
	assert.Equal(t, outbox.StateQueued, d.State("june-0"))

	for _, verb := range []string{"park", "delete"} {
		d.agree("verb=" + verb + "&number=" + number + "&label=june")
	}
	assert.Empty(t, d.State("june-0"))
	assert.Equal(t, outbox.StateQueued, d.State("other"))
	assert.Contains(t, words(d.get("confirm?verb=drop&label=june")), "Drop 0 messages?")
	assert.NotContains(t, d.get("confirm?verb=drop&label=june"), "<button", "there is nothing to agree to")
}

// A user has not agreed to what became unknown since, although there are no more than before.
func TestWhatChangesAfterTheUserWasAskedIsNotResent(t *testing.T) {
	d := newDesk(t)
	d.Add("as it was", "dropped", "late")
	require.NoError(t, d.Park(t.Context(), "as it was"))
	require.NoError(t, d.Park(t.Context(), "dropped"))
	d.passes()
	asked := d.get("confirm?verb=resend&state=unknown")
	assert.Contains(t, words(asked), "Resend 2 messages?")
	assert.Contains(t, words(asked), "those that are enqueued or change from now on, are left alone.")
	assert.NotContains(t, words(d.get("confirm?verb=drop&state=unknown")), "or change")
	require.NoError(t, d.Drop(t.Context(), "dropped"))
	require.NoError(t, d.Park(t.Context(), "late"))
	got := d.do(http.MethodPost, "decide", fields(asked))
	assert.Contains(t, got.body, "1 message was put back into the queue.")
	assert.Equal(t, outbox.StateQueued, d.State("as it was"))
	assert.Equal(t, outbox.StateFailed, d.State("dropped"))
	assert.Equal(t, outbox.StateUnknown, d.State("late"))
}

// What somebody resends after the user was asked is queued, and somebody waits for it.
func TestWhatDoesNotMatchAnyMoreIsLeftAlone(t *testing.T) {
	for verb, after := range map[string]outbox.State{"drop": outbox.StateFailed, "delete": ""} {
		d := newDesk(t)
		d.Add("a", "resent")
		require.NoError(t, d.Park(t.Context(), "a"))
		require.NoError(t, d.Park(t.Context(), "resent"))
		d.passes()
		asked := d.get("confirm?verb=" + verb + "&state=unknown")
		assert.Contains(t, words(asked), "2 messages?", verb)
		require.NoError(t, d.Resend(t.Context(), "resent"))
		got := d.do(http.MethodPost, "decide", fields(asked))
		assert.Contains(t, got.body, "1 message was ", verb)
		assert.Equal(t, after, d.State("a"), verb)
		assert.Equal(t, outbox.StateQueued, d.State("resent"), verb)
	}
}

func TestNothingIsDecidedForManyWithoutACount(t *testing.T) {
	d := newDesk(t)
	d.Add("a", "b")
	for _, form := range []url.Values{
		{"verb": {"drop"}}, {"verb": {"delete"}, "state": {"queued"}}, {"verb": {"drop"}, "count": {"x"}, "at": {"1"}},
		{"verb": {"drop"}, "count": {"2"}}, {"verb": {"pause"}}, {"verb": {""}}, {"verb": {"drop"}, "state": {"sent"}, "count": {"9"}, "at": {"1"}},
	} {
		got := d.do(http.MethodPost, "decide", form)
		assert.Equal(t, http.StatusBadRequest, got.StatusCode, form)
	}
	stats, err := d.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, stats.States[outbox.StateQueued])
	assert.False(t, stats.Paused)
}

func TestNumbersArePausedAndResumed(t *testing.T) {
	d := newDesk(t)
	d.Add("a")
	paused := func() (all, one bool) {
		stats, err := d.Stats(t.Context())
		require.NoError(t, err)
		return stats.Paused, stats.Numbers[number].Paused
	}
	got := d.do(http.MethodPost, "decide", fields(d.get("")), "X-User", "ben")
	assert.Contains(t, got.body, "The number was paused.")
	all, one := paused()
	assert.True(t, one)
	assert.False(t, all)
	assert.Contains(t, d.log.String(), "user.name=ben graphretry.outbox.decision=pause graphretry.outbox.phone_number_id="+number)
	d.do(http.MethodPost, "decide", fields(d.get("")))
	_, one = paused()
	assert.False(t, one)

	asked := d.get("confirm?verb=pause")
	assert.Contains(t, words(asked), "Pause all numbers? 1 message is in the queue.")
	got = d.agree("verb=pause")
	assert.Contains(t, got.body, "All numbers were paused.")
	assert.Contains(t, got.body, "All numbers are paused.")
	all, one = paused()
	assert.True(t, all)
	assert.False(t, one)
	assert.Contains(t, d.agree("verb=resume").body, "All numbers were resumed.")
	all, _ = paused()
	assert.False(t, all)
}

func TestFormFromAnotherOriginChangesNothing(t *testing.T) {
	d := newDesk(t)
	d.Add("a")
	form := url.Values{"verb": {"drop"}, "id": {"a"}}
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
	} {
		got := d.do(http.MethodPost, "decide", form, append(header, "X-User", "ana")...)
		assert.Equal(t, http.StatusForbidden, got.StatusCode, header)
		assert.Contains(t, got.body, "This form came from another site")
	}
	assert.Equal(t, outbox.StateQueued, d.State("a"))
	assert.Contains(t, d.log.String(), `level=WARN msg="outbox: a form from another origin was refused" user.name=ana`)
	got := d.do(http.MethodPost, "decide", form, "Sec-Fetch-Site", "same-origin")
	assert.Equal(t, http.StatusOK, got.StatusCode)
	assert.Equal(t, outbox.StateFailed, d.State("a"))
}

func TestNothingIsChangedByAGet(t *testing.T) {
	d := newDesk(t)
	d.Add("a")
	for _, path := range []string{"decide?verb=drop&id=a", "confirm?verb=drop&id=a", "message?id=a&verb=drop&did=drop&n=1"} {
		d.do(http.MethodGet, path, nil)
		d.do(http.MethodHead, path, nil)
	}
	// The query of a POST is ignored.
	d.do(http.MethodPost, "decide?verb=drop&id=a", url.Values{})
	assert.Equal(t, outbox.StateQueued, d.State("a"))
	assert.Empty(t, d.log.String())
}
