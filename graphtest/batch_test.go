package graphtest_test

import (
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

const batchOfThree = `[{"method":"POST","relative_url":"v25.0/106540352242922/messages","body":"messaging_product=whatsapp&to=16505551234&biz_opaque_callback_data=one"},` +
	`{"method":"GET","relative_url":"me?fields=id"},` +
	`{"method":"POST","relative_url":"106540352242922/messages","body":"{\"messaging_product\":\"whatsapp\",\"to\":\"1\",\"biz_opaque_callback_data\":\"two\"}"}]`

// partsOf sends a batch, and returns the status and the body of each part, -1 for null.
func partsOf(t *testing.T, api *graphtest.API, contentType, body string) (statuses []int, bodies []string) {
	t.Helper()
	resp, err := (&http.Client{Transport: api}).Post("https://graph.facebook.com/", contentType, strings.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	content, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var parts []*struct {
		Code    int
		Headers []struct{ Name, Value string }
		Body    string
	}
	require.NoError(t, json.Unmarshal(content, &parts), "%s", content)
	for _, part := range parts {
		if part == nil {
			statuses, bodies = append(statuses, -1), append(bodies, "")
			continue
		}
		statuses, bodies = append(statuses, part.Code), append(bodies, part.Body)
		assert.Equal(t, !strings.Contains(body, "include_headers"), len(part.Headers) > 0)
	}
	return statuses, bodies
}

func TestBatchIsAnsweredByPart(t *testing.T) {
	var form strings.Builder
	parts := multipart.NewWriter(&form)
	require.NoError(t, parts.WriteField("batch", batchOfThree))
	require.NoError(t, parts.Close())
	for contentType, body := range map[string]string{
		"application/x-www-form-urlencoded": url.Values{"batch": {batchOfThree}, "include_headers": {"false"}}.Encode(),
		"application/json":                  `{"batch":` + batchOfThree + `}`,
		parts.FormDataContentType():         form.String(),
	} {
		api := graphtest.New()
		statuses, bodies := partsOf(t, api, contentType, body)
		require.Equal(t, []int{200, 200, 200}, statuses, contentType)
		assert.Contains(t, bodies[0], "wamid.")
		assert.JSONEq(t, `{"id":"me"}`, bodies[1])
		assert.Equal(t, []string{"one", "two"}, api.AcceptedKeys())
		assert.Equal(t, 3, api.Totals().Calls, "each part is a call")
		assert.Equal(t, "/v25.0/106540352242922/messages", api.Calls()[0].Path)
	}
}

func TestEachPartOfABatchFollowsTheScript(t *testing.T) {
	api := graphtest.New()
	api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	api.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak})
	statuses, bodies := partsOf(t, api, "application/json", `{"batch":`+batchOfThree+`}`)
	assert.Equal(t, []int{graphtest.Status(graphretry.CodeServiceUnavailable), -1, 200}, statuses)
	graph, ok := graphretry.ParseError(statuses[0], nil, []byte(bodies[0]))
	require.True(t, ok)
	assert.Equal(t, graphretry.CodeServiceUnavailable, graph.Code)
	assert.Equal(t, []string{"two"}, api.AcceptedKeys())
}

func TestWhatIsNoBatchIsUnsupported(t *testing.T) {
	for _, body := range []string{`{}`, `{"batch":7}`, `{"batch":"x"}`, `{"batch":[` + strings.Repeat(`{},`, 50) + `{}]}`} {
		resp, err := (&http.Client{Transport: graphtest.New()}).Post("https://graph.facebook.com/", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		graph, ok := graphretry.ErrorFromResponse(resp)
		resp.Body.Close()
		require.True(t, ok, body)
		assert.Equal(t, graphretry.CodeInvalidParameter, graph.Code)
	}
}
