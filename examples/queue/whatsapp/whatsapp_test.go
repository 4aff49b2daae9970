package whatsapp_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
	"github.com/graphretry/graphretry/graphtest"
)

var message = whatsapp.Message{From: "106540352242922", To: "15550001111", Text: "Your table is booked."}

// sender returns a Sender to a fake API.
func sender(t *testing.T, api *graphtest.API, opts ...graphretry.Option) *whatsapp.Sender {
	t.Helper()
	s, err := whatsapp.NewSender(api, whatsapp.BaseURL, "EAAJ-example", opts...)
	require.NoError(t, err)
	return s
}

func unmarked(graphretry.Decision) error { return nil }

func TestJobIsMarkedBeforeItsRequestGoesOut(t *testing.T) {
	api := graphtest.New()
	history := graphretry.History{Retries: map[graphretry.Code]int{2: 3}}
	marks := 0
	decision, err := sender(t, api).Send(t.Context(), message, whatsapp.Job{ID: "7", Created: time.Now(), History: history}, func(mark graphretry.Decision) error {
		marks++
		assert.Empty(t, api.Calls())
		assert.Equal(t, graphretry.OutcomeUnknown, mark.Outcome)
		assert.Equal(t, history, mark.History)
		assert.NotEmpty(t, mark.Cause)
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, graphretry.OutcomeSent, decision.Outcome)
	assert.Equal(t, 1, marks)
	assert.Equal(t, "7", api.Accepted()[0].CallbackData)
}

func TestNothingIsSentForAJobThatCannotBeMarked(t *testing.T) {
	api := graphtest.New()
	down := errors.New("the database is down")
	_, err := sender(t, api).Send(t.Context(), message, whatsapp.Job{ID: "7", Created: time.Now()}, func(graphretry.Decision) error { return down })
	assert.ErrorIs(t, err, down)
	assert.Empty(t, api.Calls())
}

func TestJobIsNotMarkedWhileTheAPIIsDown(t *testing.T) {
	api := graphtest.New()
	api.DownAfter(0, time.Hour, graphtest.Answer{})
	s := sender(t, api, graphretry.WithOutageThreshold(1))
	_, err := s.Send(t.Context(), message, whatsapp.Job{ID: "1", Created: time.Now()}, unmarked)
	require.NoError(t, err)
	decision, err := s.Send(t.Context(), message, whatsapp.Job{ID: "2", Created: time.Now()}, func(graphretry.Decision) error {
		t.Error("marked")
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, graphretry.OutcomeHeld, decision.Outcome)
	assert.Len(t, api.Calls(), 1)
}

func TestDeployBreaksNoSendOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		api.SetLatency(10 * time.Second)
		ctx, deploy := context.WithTimeout(t.Context(), time.Second)
		defer deploy()
		decision, err := sender(t, api).Send(ctx, message, whatsapp.Job{ID: "7", Created: time.Now()}, unmarked)
		require.NoError(t, err)
		assert.Error(t, ctx.Err())
		assert.Equal(t, graphretry.OutcomeSent, decision.Outcome)

		api.SetLatency(time.Hour)
		began := time.Now()
		decision, err = sender(t, api).Send(ctx, message, whatsapp.Job{ID: "8", Created: time.Now()}, unmarked)
		require.NoError(t, err)
		assert.Equal(t, graphretry.OutcomeUnknown, decision.Outcome)
		assert.Equal(t, whatsapp.AttemptTimeout, time.Since(began))
	})
}

func TestJobThatWaitsFailsAtItsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		s := sender(t, api)
		for code, waits := range map[graphretry.Code]graphretry.Outcome{190: graphretry.OutcomeHeld, 2: graphretry.OutcomeRetry} {
			api.AnswerNext(3, graphtest.Answer{Code: code})
			created := time.Now()
			for _, want := range []graphretry.Outcome{waits, waits, graphretry.OutcomeFailed} {
				decision, err := s.Send(t.Context(), message, whatsapp.Job{ID: "7", Created: created}, unmarked)
				require.NoError(t, err)
				assert.Equal(t, want, decision.Outcome, "%d after %v", code, time.Since(created))
				time.Sleep(whatsapp.MaxAge/2 + time.Second)
			}
		}
	})
}

func TestRedirectIsNotFollowed(t *testing.T) {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Status: 302, Header: http.Header{"Location": {"https://graph.facebook.com/login"}}, Body: []byte{}})
	decision, err := sender(t, api).Send(t.Context(), message, whatsapp.Job{ID: "7", Created: time.Now()}, unmarked)
	require.NoError(t, err)
	assert.Equal(t, graphretry.OutcomeFailed, decision.Outcome)
	assert.Len(t, api.Calls(), 1)
}
