package graphretry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// records are the lines of a JSON log.
func records(t testing.TB, log io.Reader) []map[string]any {
	t.Helper()
	var all []map[string]any
	for decoder := json.NewDecoder(log); ; {
		var record map[string]any
		err := decoder.Decode(&record)
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, record)
	}
}

func TestLogHasALevelForEachKindOfEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		var log bytes.Buffer
		transport, err := graphretry.NewTransport(api, graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		require.NoError(t, err)
		for _, test := range []struct {
			name    string
			answers []graphtest.Answer
			want    [][2]string
		}{
			{"success", []graphtest.Answer{{}}, nil},
			{"recovered", []graphtest.Answer{{Code: 2}, {}}, [][2]string{{"WARN", "graphretry: retrying"}, {"INFO", "graphretry: recovered"}}},
			{"gave up", []graphtest.Answer{{Code: 131000}, {Code: 131000}}, [][2]string{{"WARN", "graphretry: retrying"}, {"ERROR", "graphretry: gave up"}}},
			{"not retried", []graphtest.Answer{{Code: 100}}, [][2]string{{"INFO", "graphretry: not retried"}}},
			{"no Graph error", []graphtest.Answer{{Status: 502}}, [][2]string{{"INFO", "graphretry: not retried"}}},
			{"no answer", []graphtest.Answer{{Fault: graphtest.FaultBreak}}, [][2]string{{"INFO", "graphretry: not retried"}}},
		} {
			for _, answer := range test.answers {
				api.AnswerNext(1, answer)
			}
			if resp, err := transport.RoundTrip(message(t, t.Context())); err == nil {
				resp.Body.Close()
			}
			var got [][2]string
			for _, record := range records(t, &log) {
				got = append(got, [2]string{record["level"].(string), record["msg"].(string)})
			}
			assert.Equal(t, test.want, got, test.name)
		}
	})
}

func TestLogHasEveryAttributeThatHasAValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		for _, answer := range []graphtest.Answer{
			{Code: 2, Subcode: 7, Details: "for a while"}, {Code: 131000}, {Code: 131000}, // retrying twice, gave up
			{Code: 100, Subcode: 133010}, // not retried
			{Status: 502},                // not retried: no Graph error
			{Fault: graphtest.FaultBreak},
		} {
			api.AnswerNext(1, answer)
		}
		var log bytes.Buffer
		transport, err := graphretry.NewTransport(api, graphretry.WithJitter(0), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		require.NoError(t, err)
		for range 4 {
			if resp, err := transport.RoundTrip(message(t, t.Context())); err == nil {
				resp.Body.Close()
			}
		}
		all := records(t, &log)
		require.Len(t, all, 6)
		for _, record := range all {
			for name, value := range record {
				assert.NotEmpty(t, value, "%v: %s", record["msg"], name)
			}
			assert.NotEmpty(t, record["graphretry.reason"])
			assert.Equal(t, "POST", record["http.request.method"])
			assert.Equal(t, "graph.facebook.com", record["server.address"])
			assert.Equal(t, "/v25.0/106540352242922/messages", record["url.path"])
		}
		first := all[0]
		assert.EqualValues(t, 2, first["graph.code"])
		assert.EqualValues(t, 7, first["graph.subcode"])
		assert.Equal(t, "transient", first["graph.class"])
		assert.Equal(t, "API Service", first["graph.title"])
		assert.Equal(t, "for a while", first["graph.details"])
		assert.NotEmpty(t, first["graph.fbtrace_id"])
		assert.NotContains(t, first, "http.request.resend_count")
		assert.EqualValues(t, 2, all[2]["http.request.resend_count"])
		assert.EqualValues(t, 503, first["http.response.status_code"])
		assert.Equal(t, "transient", first["error.type"])
		assert.Equal(t, "retry_once", all[1]["error.type"])
		assert.Equal(t, "retry_once", all[1]["graph.class"])
		assert.EqualValues(t, 5, first["graphretry.wait_s"])
		assert.Equal(t, "temporary failure", first["graphretry.reason"])
		assert.Equal(t, graphretry.CodeAPIService.Advice(), first["graph.advice"])

		subcode := all[3]
		assert.EqualValues(t, 100, subcode["graph.code"])
		assert.EqualValues(t, 133010, subcode["graph.subcode"])
		assert.Equal(t, "Phone number Not Registered", subcode["graph.title"], "the title of the WhatsApp code in the subcode")
		assert.Equal(t, "permission", subcode["graph.class"])
		for _, record := range all[4:] {
			for _, name := range []string{"graph.code", "graph.subcode", "graph.class", "graph.title", "graph.message", "graph.details", "graph.fbtrace_id", "graph.advice", "graphretry.wait_s"} {
				assert.NotContains(t, record, name, "there was no code, not even 0")
			}
		}
		assert.EqualValues(t, 502, all[4]["http.response.status_code"], "of a page in HTML, too")
		assert.NotContains(t, all[5], "http.response.status_code")
		assert.Contains(t, all[5]["error.message"], syscall.ECONNRESET.Error())
	})
}

func TestMethodThatIsLeftOutIsLoggedAsGET(t *testing.T) {
	var log bytes.Buffer
	transport, err := graphretry.NewTransport(failing(), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
	require.NoError(t, err)
	req := message(t, t.Context())
	req.Method, req.Body, req.GetBody = "", nil, nil
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, "GET", records(t, &log)[0]["http.request.method"])
}

func TestNothingIsFormattedForALevelThatIsNotLogged(t *testing.T) {
	failure := new(countedError)
	next := roundTripper(func(*http.Request) (*http.Response, error) { return nil, failure })
	for level, words := range map[slog.Level]int{slog.LevelInfo: 1, slog.LevelWarn: 0} {
		failure.texts = 0
		var log bytes.Buffer
		transport, err := graphretry.NewTransport(next, graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: level}))))
		require.NoError(t, err)
		_, err = transport.RoundTrip(message(t, t.Context()))
		require.Same(t, failure, err)
		assert.Len(t, records(t, &log), words, "what is not retried is told at Info; logged is %v", level)
		assert.Equal(t, words, failure.texts, "logged is %v", level)
	}
}

// countedError counts how often it is put into words.
type countedError struct{ texts int }

func (e *countedError) Error() string {
	e.texts++
	return "broken"
}

func TestErrorIsLoggedAsAGroupOfItsFields(t *testing.T) {
	e, ok := graphretry.ParseError(400, nil, []byte(`{"error":{"message":"m","type":"OAuthException","code":100,"error_subcode":133010,`+
		`"error_data":{"details":"d"},"fbtrace_id":"A1"}}`))
	require.True(t, ok)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Error("sending failed", "graph", e)
	assert.Equal(t, map[string]any{
		"status": 400.0, "code": 100.0, "subcode": 133010.0, "class": "permission", "title": "Phone number Not Registered",
		"message": "m", "details": "d", "fbtrace_id": "A1", "advice": graphretry.Code(133010).Advice(),
	}, records(t, &log)[0]["graph"], "and without Raw")

	slog.New(slog.NewJSONHandler(&log, nil)).Error("sending failed", "graph", (*graphretry.Error)(nil))
	assert.Nil(t, records(t, &log)[0]["graph"])
}

// An alert on a code must not be set off by a success.
func TestLogOfASuccessAfterARetryHasTheCodeUnderAnotherName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		transport := newTransport(t, script(down, reply{err: errReset}, success),
			graphretry.WithNetworkRetries(), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		req := message(t, t.Context())
		req.Method = http.MethodGet
		_, err := transport.RoundTrip(req)
		require.NoError(t, err)
		_, err = newTransport(t, script(down, success), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil)))).RoundTrip(message(t, t.Context()))
		require.NoError(t, err)
		var recovered []map[string]any
		for _, record := range records(t, &log) {
			if record["msg"] == "graphretry: recovered" {
				delete(record, "time")
				recovered = append(recovered, record)
			}
		}
		common := map[string]any{"level": "INFO", "msg": "graphretry: recovered", "server.address": "graph.facebook.com", "url.path": req.URL.Path}
		first, second := maps.Clone(common), maps.Clone(common)
		first["http.request.method"], first["http.request.resend_count"], first["graphretry.after_error"] = "GET", 2.0, errReset.Error()
		second["http.request.method"], second["http.request.resend_count"], second["graphretry.after_code"] = "POST", 1.0, 2.0
		assert.Equal(t, []map[string]any{first, second}, recovered)
	})
}

func TestLogSaysWhatARetryWouldTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reasonOf := func(next http.RoundTripper, req *http.Request, options ...graphretry.Option) any {
			var log bytes.Buffer
			resp, err := newTransport(t, next, append(options, graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))...).RoundTrip(req)
			require.NoError(t, err)
			resp.Body.Close()
			all := records(t, &log)
			return all[len(all)-1]["graphretry.reason"]
		}
		for _, code := range []graphretry.Code{4, 130429, 131056} {
			assert.Equal(t, "this failure is not retried: WithThrottleRetries retries this code", reasonOf(script(fails(code)), message(t, t.Context())))
		}
		assert.Equal(t, "this failure is not retried", reasonOf(script(fails(131048)), message(t, t.Context())), "no option retries it")
		stream := messageRequest(t, io.MultiReader(strings.NewReader(messageBody)))
		assert.Equal(t, "body cannot be sent again: set GetBody or raise WithMaxBufferedBody", reasonOf(script(down), stream, graphretry.WithMaxBufferedBody(0)))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		assert.Equal(t, "no time left: the next attempt would be in 5s, and the call has 2s", reasonOf(script(down), message(t, ctx), graphretry.WithJitter(0)), "a deadline")
		assert.Equal(t, "no time left: the next attempt would be in 5s, and the call has 3s",
			reasonOf(script(down), message(t, t.Context()), graphretry.WithJitter(0), graphretry.WithMaxElapsedTime(3*time.Second)), "the maximum elapsed time")
	})
}

func TestTextsForTheUserAreLoggedAndStandInForDetails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := `{"error":{"message":"Invalid parameter","code":100,"error_subcode":2388072,` +
			`"error_user_title":"Message body format is incorrect","error_user_msg":"The body has more than two\nnewlines in a row."}}`
		var log bytes.Buffer
		transport := newTransport(t, script(reply{status: 400, body: body}), graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		resp, err := transport.RoundTrip(message(t, t.Context()))
		require.NoError(t, err)
		record := records(t, &log)[0]
		assert.Equal(t, "Message body format is incorrect", record["graph.user_title"])
		assert.Equal(t, "The body has more than two\nnewlines in a row.", record["graph.user_message"])
		assert.NotContains(t, record, "graph.details")

		e, ok := graphretry.ErrorFromResponse(resp)
		require.True(t, ok)
		assert.Equal(t, "graphretry: Graph error 100, subcode 2388072 (Message body format is incorrect): Invalid parameter: "+
			"Message body format is incorrect: The body has more than two newlines in a row.", e.Error())
		e.Details = "They are enough."
		assert.Equal(t, "graphretry: Graph error 100, subcode 2388072 (Message body format is incorrect): Invalid parameter: They are enough.", e.Error())
	})
}

// An alert on a code must not be set off by what is over.
func TestEndOfAnOutageIsLoggedWithItsCodeUnderAnotherName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		transport := newTransport(t, script(down, success), graphretry.WithJitter(0), graphretry.WithOutageThreshold(1),
			graphretry.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
		sentStatus(t, transport, t.Context())
		var ended []map[string]any
		for _, record := range records(t, &log) {
			if record["msg"] == "graphretry: outage ended" {
				ended = append(ended, record)
			}
		}
		require.Len(t, ended, 1)
		assert.Equal(t, 2.0, ended[0]["graphretry.after_code"])
		for _, of := range []string{"graph.code", "graph.subcode", "graph.class", "graph.title", "graph.advice", "graph.message", "http.response.status_code", "error.type"} {
			assert.NotContains(t, ended[0], of)
		}
	})
}

// Elasticsearch's common schema has these as objects, and refuses a line in which one is a
// text or a number. (https://www.elastic.co/docs/reference/ecs/ecs-field-reference)
var objectsOfECS = []string{
	"agent", "client", "cloud", "code_signature", "container", "data_stream", "destination", "device", "dll", "dns", "ecs", "email",
	"error", "event", "faas", "file", "geo", "group", "hash", "host", "http", "interface", "log", "network", "observer",
	"orchestrator", "organization", "os", "package", "process", "registry", "related", "rule", "server", "service", "source",
	"threat", "tls", "trace", "transaction", "url", "user", "user_agent", "volume", "vulnerability",
}

// Datadog reads these as the severity, and a number as that of syslog.
// (https://docs.datadoghq.com/logs/log_configuration/pipelines/?tab=status)
var severitiesOfDatadog = []string{"status", "severity", "level", "syslog.severity"}

// nested puts the attributes of a line into objects by the dots in their names, as a
// pipeline does, and reports what it could not put there.
func nested(t testing.TB, record map[string]any) map[string]any {
	t.Helper()
	root := map[string]any{}
	for name, value := range record {
		object, parts := root, strings.Split(name, ".")
		for _, part := range parts[:len(parts)-1] {
			inner, isNew := map[string]any{}, object[part] == nil
			if isNew {
				object[part] = inner
			} else if !assert.IsType(t, inner, object[part], "%s is inside a value", name) {
				break
			}
			object = object[part].(map[string]any)
		}
		last := parts[len(parts)-1]
		assert.NotContains(t, object, last, "%s is a value and an object", name)
		object[last] = value
	}
	for _, name := range objectsOfECS {
		if value, ok := root[name]; ok {
			assert.IsType(t, map[string]any{}, value, "%s", name)
		}
	}
	for _, name := range severitiesOfDatadog {
		_, isNumber := root[name].(float64)
		assert.False(t, isNumber, "%s", name)
	}
	return root
}

func TestEachLineIsOneThatPipelinesTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		logger := slog.New(slog.NewJSONHandler(&log, nil))
		details := fails(2).with(func(r *reply) {
			r.body = `{"error":{"message":"m","code":2,"error_subcode":131016,"error_data":{"details":"d"},` +
				`"error_user_title":"t","error_user_msg":"u","fbtrace_id":"A1"}}`
		})
		for _, replies := range [][]reply{
			{details, success}, {fails(100)}, {fails(131000)}, {{err: errReset}, success}, {{err: errReset}}, {{status: 502}},
		} {
			transport := newTransport(t, script(replies...), graphretry.WithLogger(logger), graphretry.WithOutageThreshold(1), graphretry.WithNetworkRetries())
			req := message(t, t.Context())
			req.Method = http.MethodPut
			req.URL.Host = "graph.facebook.com:443"
			if resp, err := transport.RoundTrip(req); err == nil {
				resp.Body.Close()
			}
		}
		// One number fails, and another one does not.
		api := newNumbers()
		api.fail(noisyURL, time.Minute)
		transport := newTransport(t, api, graphretry.WithLogger(logger), graphretry.WithOutageThreshold(1), graphretry.WithoutWaiting())
		for _, url := range []string{noisyURL, quietURL} {
			sent, err := statusOf(t.Context(), transport, url)
			require.NoError(t, err)
			assert.Equal(t, url == quietURL, sent == http.StatusOK)
		}
		seen := map[string]bool{}
		for _, record := range records(t, &log) {
			nested(t, record)
			for name := range record {
				seen[name] = true
			}
		}
		// Each name was there, and none that the comment of WithLogger does not list.
		for _, option := range packageDoc(t, ".").option {
			if option.Name != "WithLogger" {
				continue
			}
			listed := map[string]bool{"time": true, "level": true, "msg": true}
			for _, name := range regexp.MustCompile(`\b(?:http|server|url|error|graph|graphretry)\.[a-z_.]+[a-z]`).FindAllString(option.Doc, -1) {
				listed[name] = true
			}
			delete(listed, "graph.facebook.com")
			assert.Equal(t, listed, seen)
		}
	})
}
