package graphretry_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// BenchmarkSuccess measures what a success costs more than the next RoundTripper
// alone: the difference of its two lines.
func BenchmarkSuccess(b *testing.B) {
	resp := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}
	next := roundTripper(func(*http.Request) (*http.Response, error) { return resp, nil })
	transport, err := graphretry.NewTransport(next)
	require.NoError(b, err)
	for _, bench := range []struct {
		name string
		http.RoundTripper
	}{{"next", next}, {"graphretry", transport}} {
		b.Run(bench.name, func(b *testing.B) {
			req, err := http.NewRequest(http.MethodPost, "https://graph.facebook.com/v23.0/1/messages", strings.NewReader("{}"))
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bench.RoundTrip(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

const parameterError = `{"error":{"message":"(#131009) Parameter value is not valid","type":"OAuthException","code":131009,` +
	`"error_data":{"messaging_product":"whatsapp","details":"Parameter value is not valid: text.body is required"},` +
	`"error_subcode":2494010,"fbtrace_id":"AzXcvWbXnq1oPbnEGkx3SXJ"}}`

// BenchmarkNotRetried measures an error that is not retried against a peek as a
// careful user writes it by hand.
func BenchmarkNotRetried(b *testing.B) {
	next := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusBadRequest, Header: http.Header{}, ContentLength: int64(len(parameterError)),
			Body: io.NopCloser(strings.NewReader(parameterError)),
		}, nil
	})
	byHand := roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := next(req)
		if err != nil || resp.StatusCode < http.StatusBadRequest {
			return resp, err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		var answer struct{ Error struct{ Code int } }
		if json.Unmarshal(body, &answer) == nil && answer.Error.Code == 2 {
			b.Fatal("not to be retried")
		}
		return resp, nil
	})
	transport, err := graphretry.NewTransport(next)
	require.NoError(b, err)
	for _, bench := range []struct {
		name string
		http.RoundTripper
	}{{"by hand", byHand}, {"graphretry", transport}} {
		b.Run(bench.name, func(b *testing.B) {
			req, err := http.NewRequest(http.MethodPost, "https://graph.facebook.com/v23.0/1/messages", strings.NewReader("{}"))
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := bench.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}
