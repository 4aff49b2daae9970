package webhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/webhook"
	"github.com/graphretry/graphretry/graphtest"
)

var secret = []byte("app secret")

// post posts a webhook, and returns the status and what was reported.
func post(t *testing.T, body []byte, signature string, settled error) (int, []webhook.Report) {
	t.Helper()
	var reports []webhook.Report
	handler := webhook.Handler(secret, func(_ context.Context, report webhook.Report) error {
		reports = append(reports, report)
		return settled
	})
	req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	req.Header.Set("X-Hub-Signature-256", signature)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, req)
	return answer.Code, reports
}

func sign(body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

var message = graphtest.Message{ID: "wamid.A", CallbackData: "7", RecipientID: "15550001111", PhoneNumberID: "106540352242922"}

func TestReportSaysWhatBecameOfAMessage(t *testing.T) {
	for _, status := range []string{"sent", "delivered", "read"} {
		body := graphtest.StatusWebhook(message, status)
		code, reports := post(t, body, sign(body), nil)
		assert.Equal(t, http.StatusOK, code)
		require.Len(t, reports, 1, status)
		assert.Equal(t, "7", reports[0].CallbackData)
		assert.Equal(t, "wamid.A", reports[0].MessageID)
		assert.Nil(t, reports[0].Graph)
	}
	body := graphtest.StatusWebhook(message, "failed", 131026)
	_, reports := post(t, body, sign(body), nil)
	require.Len(t, reports, 1)
	assert.Equal(t, graphretry.Code(131026), reports[0].Graph.Code)
	assert.Equal(t, "7", reports[0].CallbackData)
}

func TestWebhookThatIsNotMetasReportsNothing(t *testing.T) {
	body := graphtest.StatusWebhook(message, "sent")
	code, reports := post(t, body, sign(append(body, ' ')), nil)
	assert.Equal(t, http.StatusForbidden, code)
	assert.Empty(t, reports)

	code, reports = post(t, []byte("x"), sign([]byte("x")), nil)
	assert.Equal(t, http.StatusBadRequest, code)
	assert.Empty(t, reports)
}

func TestMessageWithoutCallbackDataIsNotOurs(t *testing.T) {
	other := message
	other.CallbackData = ""
	for _, body := range [][]byte{graphtest.StatusWebhook(other, "sent"), graphtest.StatusWebhook(other, "failed", 131026), []byte(`{"entry":[{"changes":[{"value":{"statuses":7}}]}]}`)} {
		code, reports := post(t, body, sign(body), nil)
		assert.Equal(t, http.StatusOK, code)
		assert.Empty(t, reports)
	}
}

func TestFailedSettleHasMetaSendTheWebhookAgain(t *testing.T) {
	body := graphtest.StatusWebhook(message, "sent")
	code, _ := post(t, body, sign(body), errors.New("the database is down"))
	assert.Equal(t, http.StatusInternalServerError, code)
}
