// Package webhook takes Meta's webhooks, and says what became of the messages of a job
// queue.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/graphretry/graphretry"
)

// Report is what Meta says of a message.
type Report struct {
	// CallbackData is the message's biz_opaque_callback_data: the job.
	CallbackData string
	// MessageID is its wamid.
	MessageID string
	// Graph is why the message failed. It is nil for a message that was sent.
	Graph *graphretry.Error
}

// Handler returns what answers to Meta's POST requests. It calls settle for each report
// about a message with callback data. A failed settle has Meta send the webhook again.
func Handler(appSecret []byte, settle func(context.Context, Report) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<20)) // Meta sends 3 MB at most
		if err != nil {
			http.Error(w, "cannot read the body", http.StatusBadRequest)
			return
		}
		if err := graphretry.VerifyWebhook(body, r.Header.Get("X-Hub-Signature-256"), appSecret); err != nil {
			http.Error(w, "not signed by Meta", http.StatusForbidden)
			return
		}
		reports, err := read(body)
		if err != nil {
			http.Error(w, "not a webhook of Meta's", http.StatusBadRequest)
			return
		}
		var errs []error
		for _, report := range reports {
			errs = append(errs, settle(r.Context(), report))
		}
		if errors.Join(errs...) != nil {
			http.Error(w, "cannot settle", http.StatusInternalServerError)
		}
	})
}

// read returns the reports in the body of a webhook.
func read(body []byte) ([]Report, error) {
	failures, err := graphretry.ParseWebhook(body)
	if err != nil {
		return nil, err
	}
	var reports []Report
	for _, failure := range failures {
		if failure.CallbackData == "" || failure.ParticipantID != "" || failure.ParticipantUserID != "" {
			continue // not of ours, or of one participant of a group
		}
		reports = append(reports, Report{failure.CallbackData, failure.MessageID, failure.Graph})
	}
	var webhook struct {
		Entry []struct {
			Changes []struct {
				Value struct {
					Statuses []struct {
						ID           string `json:"id"`
						Status       string `json:"status"`
						CallbackData string `json:"biz_opaque_callback_data"`
					} `json:"statuses"`
				} `json:"value"`
			} `json:"changes"`
		} `json:"entry"`
	}
	// A webhook of another kind can have other types there, and has no statuses.
	var other *json.UnmarshalTypeError
	if err := json.Unmarshal(body, &webhook); err != nil && !errors.As(err, &other) {
		return nil, err
	}
	for _, entry := range webhook.Entry {
		for _, change := range entry.Changes {
			for _, status := range change.Value.Statuses {
				switch status.Status {
				case "sent", "delivered", "read":
					if status.CallbackData != "" {
						reports = append(reports, Report{status.CallbackData, status.ID, nil})
					}
				}
			}
		}
	}
	return reports, nil
}
