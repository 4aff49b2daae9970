package graphretry_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// badOptions is every way to go wrong with one option, and the words that must
// say so.
func badOptions() map[string]struct {
	opt   graphretry.Option
	words []string
} {
	type bad = struct {
		opt   graphretry.Option
		words []string
	}
	return map[string]bad{
		"no initial interval":       {graphretry.WithInitialInterval(0), []string{"WithInitialInterval(0s)", "more than 0"}},
		"negative initial interval": {graphretry.WithInitialInterval(-time.Second), []string{"WithInitialInterval(-1s)", "more than 0"}},
		"initial above the maximum": {graphretry.WithInitialInterval(time.Hour), []string{"WithInitialInterval(1h0m0s)", "WithMaxInterval(3m0s)"}},
		"maximum below the initial": {graphretry.WithMaxInterval(time.Second), []string{"WithInitialInterval(5s)", "WithMaxInterval(1s)"}},
		"no maximum interval":       {graphretry.WithMaxInterval(0), []string{"WithMaxInterval(0s)", "more than 0"}},
		"negative maximum interval": {graphretry.WithMaxInterval(-1), []string{"WithMaxInterval(-1ns)", "more than 0"}},
		"multiplier below 1":        {graphretry.WithMultiplier(0.99), []string{"WithMultiplier(0.99)", "at least 1"}},
		"no multiplier":             {graphretry.WithMultiplier(0), []string{"WithMultiplier(0)", "at least 1"}},
		"negative multiplier":       {graphretry.WithMultiplier(-2), []string{"WithMultiplier(-2)", "at least 1"}},
		"multiplier NaN":            {graphretry.WithMultiplier(math.NaN()), []string{"WithMultiplier(NaN)", "finite"}},
		"multiplier infinity":       {graphretry.WithMultiplier(math.Inf(1)), []string{"WithMultiplier(+Inf)", "finite"}},
		"multiplier -infinity":      {graphretry.WithMultiplier(math.Inf(-1)), []string{"WithMultiplier(-Inf)", "finite"}},
		"negative elapsed time":     {graphretry.WithMaxElapsedTime(-time.Minute), []string{"WithMaxElapsedTime(-1m0s)", "0 (no limit) or more"}},
		"negative retries":          {graphretry.WithMaxRetries(-1), []string{"WithMaxRetries(-1)", "0 (no retries) or more"}},
		"jitter below 0":            {graphretry.WithJitter(-0.1), []string{"WithJitter(-0.1)", "0 to 1"}},
		"jitter like unset":         {graphretry.WithJitter(-1), []string{"WithJitter(-1)", "0 to 1"}},
		"jitter above 1":            {graphretry.WithJitter(1.1), []string{"WithJitter(1.1)", "0 to 1"}},
		"jitter NaN":                {graphretry.WithJitter(math.NaN()), []string{"WithJitter(NaN)", "0 to 1"}},
		"jitter infinity":           {graphretry.WithJitter(math.Inf(1)), []string{"WithJitter(+Inf)", "0 to 1"}},
		"no schedule":               {graphretry.WithBackOff(nil), []string{"WithBackOff(nil)", "function"}},
		"never code":                {graphretry.WithRetryOn(131009, 3), []string{"WithRetryOn(131009, 3)", "never retried", "same request would get the same answer"}},
		"code of the experiment":    {graphretry.WithRetryOn(130472, 1), []string{"WithRetryOn(130472, 1)", "never retried", "Meta enforces against repeated sends"}},
		"code retried not once":     {graphretry.WithRetryOn(1, 0), []string{"WithRetryOn(1, 0)", "at least 1", "WithoutRetryOn(1)"}},
		"code retried -1 times":     {graphretry.WithRetryOn(1, -1), []string{"WithRetryOn(1, -1)", "at least 1"}},
		"no hosts":                  {graphretry.WithHosts(), []string{"WithHosts()", "at least one host"}},
		"empty host":                {graphretry.WithHosts(""), []string{`WithHosts("")`, `"host" or "host:port"`}},
		"empty host with a port":    {graphretry.WithHosts(":443"), []string{`WithHosts(":443")`}},
		"host without its port":     {graphretry.WithHosts("example.com:"), []string{`WithHosts("example.com:")`}},
		"port by name":              {graphretry.WithHosts("example.com:https"), []string{`WithHosts("example.com:https")`}},
		"port out of range":         {graphretry.WithHosts("example.com:65536"), []string{`WithHosts("example.com:65536")`}},
		"negative port":             {graphretry.WithHosts("example.com:-1"), []string{`WithHosts("example.com:-1")`}},
		"URL for a host":            {graphretry.WithHosts("https://graph.facebook.com"), []string{`WithHosts("https://graph.facebook.com")`}},
		"host with a path":          {graphretry.WithHosts("graph.facebook.com/v23.0"), []string{`WithHosts("graph.facebook.com/v23.0")`}},
		"host with a space":         {graphretry.WithHosts("graph.facebook.com "), []string{`WithHosts("graph.facebook.com ")`}},
		"host with a wildcard":      {graphretry.WithHosts("*.facebook.com"), []string{`WithHosts("*.facebook.com")`}},
		"host with a user":          {graphretry.WithHosts("me@graph.facebook.com"), []string{`WithHosts("me@graph.facebook.com")`}},
		"IPv6 that is not closed":   {graphretry.WithHosts("[::1"), []string{`WithHosts("[::1")`}},
		"IPv6 that is not opened":   {graphretry.WithHosts("::1]"), []string{`WithHosts("::1]")`}},
		"IPv6 of nothing":           {graphretry.WithHosts("[]"), []string{`WithHosts("[]")`}},
		"IPv6 without its port":     {graphretry.WithHosts("[::1]:"), []string{`WithHosts("[::1]:")`}},
		"one host of two":           {graphretry.WithHosts("graph.facebook.com", "a b"), []string{`WithHosts("a b")`}},
		"negative buffer":           {graphretry.WithMaxBufferedBody(-1), []string{"WithMaxBufferedBody(-1)", "0 (never buffer) or more"}},
		"no attempt timeout":        {graphretry.WithAttemptTimeout(0), []string{"WithAttemptTimeout(0s)", "more than 0"}},
		"negative attempt timeout":  {graphretry.WithAttemptTimeout(-time.Second), []string{"WithAttemptTimeout(-1s)", "more than 0"}},
		"negative threshold":        {graphretry.WithOutageThreshold(-1), []string{"WithOutageThreshold(-1)", "0 (no gate) or more"}},
		"no logger":                 {graphretry.WithLogger(nil), []string{"WithLogger(nil)", "logger"}},
		"no observer":               {graphretry.WithObserver(nil), []string{"WithObserver(nil)", "function"}},
	}
}

func TestBadOptionIsRefusedInWordsThatNameItAndItsValue(t *testing.T) {
	for name, bad := range badOptions() {
		t.Run(name, func(t *testing.T) {
			transport, err := graphretry.NewTransport(nil, bad.opt)
			require.Error(t, err)
			assert.Nil(t, transport)
			for _, words := range bad.words {
				assert.ErrorContains(t, err, words)
			}
			for line := range strings.Lines(err.Error()) {
				assert.Regexp(t, `^graphretry: With`, line)
			}

			client, sameErr := graphretry.WrapClient(nil, bad.opt)
			assert.Nil(t, client)
			assert.EqualError(t, sameErr, err.Error())

			policy, sameErr := graphretry.NewPolicy(bad.opt)
			assert.Nil(t, policy)
			assert.EqualError(t, sameErr, err.Error())
		})
	}
}

func TestBadOptionsAreRefusedTogether(t *testing.T) {
	var opts []graphretry.Option
	var words []string
	for name, bad := range badOptions() {
		if name == "initial above the maximum" || name == "maximum below the initial" {
			continue // they are about each other, and the last ones given count
		}
		opts = append(opts, bad.opt, graphretry.WithThrottleRetries())
		words = append(words, bad.words...)
	}
	opts = append(opts, graphretry.WithInitialInterval(time.Hour), graphretry.WithMaxInterval(time.Minute))
	words = append(words, "WithInitialInterval(1h0m0s) is above WithMaxInterval(1m0s)")

	_, err := graphretry.NewTransport(nil, opts...)
	require.Error(t, err)
	for _, words := range words {
		assert.ErrorContains(t, err, words)
	}
	var joined interface{ Unwrap() []error }
	require.ErrorAs(t, err, &joined)
	assert.Len(t, joined.Unwrap(), len(badOptions())-1, "an error for each")
}

func TestValuesAtTheEdgeAreTaken(t *testing.T) {
	for name, opts := range map[string][]graphretry.Option{
		"no options":                   nil,
		"the zero Option":              {{}},
		"the shortest intervals":       {graphretry.WithInitialInterval(1), graphretry.WithMaxInterval(1)},
		"the longest intervals":        {graphretry.WithInitialInterval(math.MaxInt64), graphretry.WithMaxInterval(math.MaxInt64)},
		"maximum given before initial": {graphretry.WithMaxInterval(time.Second), graphretry.WithInitialInterval(time.Second)},
		"multiplier 1":                 {graphretry.WithMultiplier(1)},
		"the largest multiplier":       {graphretry.WithMultiplier(math.MaxFloat64)},
		"no limit of time":             {graphretry.WithMaxElapsedTime(0)},
		"no retries":                   {graphretry.WithMaxRetries(0)},
		"as many retries as there are": {graphretry.WithMaxRetries(math.MaxInt)},
		"no jitter":                    {graphretry.WithJitter(0)},
		"all the jitter":               {graphretry.WithJitter(1)},
		"one retry of a code":          {graphretry.WithRetryOn(1, 1)},
		"no codes":                     {graphretry.WithoutRetryOn()},
		"a never code not retried":     {graphretry.WithoutRetryOn(131009, 130472)},
		"no body kept":                 {graphretry.WithMaxBufferedBody(0)},
		"a body of any size kept":      {graphretry.WithMaxBufferedBody(math.MaxInt64)},
		"no gate":                      {graphretry.WithOutageThreshold(0)},
		"a gate that shuts at once":    {graphretry.WithOutageThreshold(1)},
		"hosts of every kind":          {graphretry.WithHosts("Example.COM", "127.0.0.1:8080", "::1", "[::1]:80", "[fe80::1]", "localhost:65535")},
		"the same host twice":          {graphretry.WithHosts("a", "a", "A")},
		"a code in two options":        {graphretry.WithRetryOn(2, 1), graphretry.WithoutRetryOn(2)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := graphretry.NewTransport(nil, opts...)
			assert.NoError(t, err)
		})
	}
}

// eventsOf is a Transport around an API whose events are listed.
func eventsOf(t testing.TB, next http.RoundTripper, opts ...graphretry.Option) (*graphretry.Transport, func() []graphretry.Event) {
	t.Helper()
	var mu sync.Mutex
	var events []graphretry.Event
	transport, err := graphretry.NewTransport(next, append([]graphretry.Option{
		graphretry.WithJitter(0),
		graphretry.WithObserver(func(_ context.Context, event graphretry.Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, event)
		}),
	}, opts...)...)
	require.NoError(t, err)
	return transport, func() []graphretry.Event {
		mu.Lock()
		defer mu.Unlock()
		return append([]graphretry.Event(nil), events...)
	}
}

// message is the request of a message.
func message(t testing.TB, ctx context.Context) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://graph.facebook.com/v23.0/106540352242922/messages",
		strings.NewReader(`{"messaging_product":"whatsapp","to":"16505551234","type":"text","text":{"body":"hello"}}`))
	require.NoError(t, err)
	return req
}

// sentStatus sends a message and gives the status of the answer.
func sentStatus(t testing.TB, transport http.RoundTripper, ctx context.Context) int {
	t.Helper()
	resp, err := transport.RoundTrip(message(t, ctx))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

func TestBadOptionInAContextFailsTheCallBeforeAnythingIsSent(t *testing.T) {
	transportOnly := []string{"WithHosts", "WithOutageThreshold", "WithLogger", "WithObserver", "WithMaxBufferedBody"}
	for name, bad := range badOptions() {
		t.Run(name, func(t *testing.T) {
			api := graphtest.New()
			transport, events := eventsOf(t, api)
			req := message(t, graphretry.ContextWithOptions(t.Context(), graphretry.WithThrottleRetries(), bad.opt))
			body := &closeCounter{Reader: req.Body}
			req.Body = body

			resp, err := transport.RoundTrip(req)
			assert.Nil(t, resp)
			require.Error(t, err)
			_, constructor := graphretry.NewPolicy(bad.opt)
			assert.ErrorContains(t, err, constructor.Error(), "the same words")
			for _, only := range transportOnly {
				if strings.HasPrefix(bad.words[0], only) {
					assert.ErrorContains(t, err, "graphretry: "+only+" cannot be set for one call")
				}
			}
			assert.Equal(t, 1, body.closed, "the body is closed")
			assert.Empty(t, api.Calls(), "nothing is sent")
			assert.Empty(t, events())

			assert.Equal(t, 200, sentStatus(t, transport, t.Context()), "other calls go on")
		})
	}
}

// closeCounter counts how often a body is closed.
type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error {
	c.closed++
	return nil
}

func TestOptionThatIsTheTransportsAloneIsRefusedInAContext(t *testing.T) {
	for name, opt := range map[string]graphretry.Option{
		"WithHosts":           graphretry.WithHosts("graph.facebook.com"),
		"WithOutageThreshold": graphretry.WithOutageThreshold(5),
		"WithLogger":          graphretry.WithLogger(slog.New(slog.DiscardHandler)),
		"WithObserver":        graphretry.WithObserver(func(context.Context, graphretry.Event) {}),
		"WithMaxBufferedBody": graphretry.WithMaxBufferedBody(1 << 20),
	} {
		t.Run(name, func(t *testing.T) {
			api := graphtest.New()
			transport, _ := eventsOf(t, api)
			ctx := graphretry.ContextWithOptions(t.Context(), opt)
			resp, err := transport.RoundTrip(message(t, graphretry.ContextWithOptions(ctx, graphretry.WithMaxRetries(1))))
			assert.Nil(t, resp)
			assert.EqualError(t, err, "graphretry: "+name+" cannot be set for one call: give it to NewTransport")
			assert.Empty(t, api.Calls())
		})
	}
}

func TestBadOptionsInAContextAreRefusedTogether(t *testing.T) {
	transport, _ := eventsOf(t, graphtest.New())
	ctx := graphretry.ContextWithOptions(t.Context(), graphretry.WithHosts(""), graphretry.WithJitter(2))
	ctx = graphretry.ContextWithOptions(ctx, graphretry.WithRetryOn(100, 1), graphretry.WithLogger(nil))
	_, err := transport.RoundTrip(message(t, ctx))
	for _, words := range []string{
		"WithHosts cannot be set for one call", `WithHosts("")`, "WithJitter(2)",
		"WithRetryOn(100, 1)", "WithLogger cannot be set for one call", "WithLogger(nil)",
	} {
		assert.ErrorContains(t, err, words)
	}
}

func TestBadOptionInAContextDoesNotConcernOtherHosts(t *testing.T) {
	api := graphtest.New()
	transport, _ := eventsOf(t, api, graphretry.WithHosts("graph.example.com"))
	assert.Equal(t, 200, sentStatus(t, transport, graphretry.ContextWithOptions(t.Context(), graphretry.WithJitter(2))))
}

func TestOptionsInAContextHoldForItsCallsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		transport, _ := eventsOf(t, api, graphretry.WithRetryOn(1, 1), graphretry.WithMaxElapsedTime(time.Hour))
		down := func(code graphretry.Code) {
			api.Clear()
			api.DownAfter(0, 24*time.Hour, graphtest.Answer{Code: code})
		}
		calls := func(ctx context.Context) (attempts int, took time.Duration) {
			before, start := len(api.Calls()), time.Now()
			sentStatus(t, transport, ctx)
			return len(api.Calls()) - before, time.Since(start)
		}
		for _, test := range []struct {
			name     string
			code     graphretry.Code
			opts     []graphretry.Option
			attempts int
			took     time.Duration
		}{
			{"none", 1, nil, 2, 5 * time.Second},
			{"WithRetryOn", 131005, []graphretry.Option{graphretry.WithRetryOn(131005, 2)}, 3, 15 * time.Second},
			{"WithoutRetryOn", 1, []graphretry.Option{graphretry.WithoutRetryOn(1)}, 1, 0},
			{"WithMaxRetries", 2, []graphretry.Option{graphretry.WithMaxRetries(3)}, 4, 35 * time.Second},
			{"WithMaxRetries of 0", 2, []graphretry.Option{graphretry.WithMaxRetries(0)}, 1, 0},
			{"WithMaxElapsedTime", 2, []graphretry.Option{graphretry.WithMaxElapsedTime(15 * time.Second)}, 3, 15 * time.Second},
			{"WithInitialInterval", 1, []graphretry.Option{graphretry.WithInitialInterval(time.Second)}, 2, time.Second},
			{"WithMultiplier", 2, []graphretry.Option{graphretry.WithMultiplier(1), graphretry.WithMaxRetries(3)}, 4, 15 * time.Second},
			{"WithMaxInterval", 2, []graphretry.Option{graphretry.WithMaxInterval(10 * time.Second), graphretry.WithMaxRetries(3)}, 4, 25 * time.Second},
			{"WithThrottleRetries", 130429, []graphretry.Option{graphretry.WithThrottleRetries(), graphretry.WithMaxRetries(1)}, 2, 5 * time.Second},
			{
				"WithBackOff", 2,
				[]graphretry.Option{graphretry.WithBackOff(func() backoff.BackOff { return &listedWaits{waits: []time.Duration{7 * time.Second}} })},
				2, 7 * time.Second,
			},
			{"none, after all these", 131005, nil, 1, 0},
			{"none, again", 1, nil, 2, 5 * time.Second},
		} {
			down(test.code)
			attempts, took := calls(graphretry.ContextWithOptions(t.Context(), test.opts...))
			assert.Equal(t, test.attempts, attempts, "attempts with %s", test.name)
			assert.Equal(t, test.took, took, "time with %s", test.name)
			api.Clear()
			sentStatus(t, transport, t.Context()) // so that no run of 2s shuts the gate
		}
	})
}

func TestOptionsOfContextsNest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		transport, _ := eventsOf(t, api, graphretry.WithOutageThreshold(0))
		attempts := func(code graphretry.Code, ctx context.Context) int {
			api.Clear()
			api.DownAfter(0, 24*time.Hour, graphtest.Answer{Code: code})
			before := len(api.Calls())
			sentStatus(t, transport, ctx)
			return len(api.Calls()) - before
		}
		outer := graphretry.ContextWithOptions(t.Context(), graphretry.WithRetryOn(1, 3), graphretry.WithRetryOn(131005, 1))
		inner := graphretry.ContextWithOptions(outer, graphretry.WithRetryOn(1, 2))
		sibling := graphretry.ContextWithOptions(outer, graphretry.WithoutRetryOn(131005))

		assert.Equal(t, 4, attempts(1, outer))
		assert.Equal(t, 3, attempts(1, inner), "the inner context has the last word")
		assert.Equal(t, 2, attempts(131005, inner), "and adds to the outer one")
		assert.Equal(t, 1, attempts(131005, sibling))
		assert.Equal(t, 4, attempts(1, sibling), "and does not know its siblings")
		assert.Equal(t, 4, attempts(1, outer), "nor has it changed the outer one")

		bypass := graphretry.ContextBypass(inner)
		assert.Equal(t, 1, attempts(1, bypass), "bypassed")
		assert.Equal(t, 1, attempts(2, graphretry.ContextWithOptions(bypass, graphretry.WithMaxRetries(2))), "and stays so further in")

		type key struct{}
		between := context.WithValue(inner, key{}, "another package's")
		assert.Equal(t, 3, attempts(1, between), "any context may lie between")
	})
}

func TestOptionsAreThoseOfTheMomentTheyWereGiven(t *testing.T) {
	hosts := []string{"graph.facebook.com"}
	codes := []graphretry.Code{1}
	opts := []graphretry.Option{graphretry.WithHosts(hosts...), graphretry.WithRetryOn(1, 1), graphretry.WithRetryOn(131005, 1), graphretry.WithoutRetryOn(codes...)}
	perCall := []graphretry.Option{graphretry.WithMaxRetries(0)}
	ctx := graphretry.ContextWithOptions(t.Context(), perCall...)
	hosts[0], codes[0], perCall[0] = "graph.example.com", 131005, graphretry.WithMaxRetries(-1)

	policy := policyWith(t, opts...)
	assert.False(t, policy.Decide(&graphretry.Error{Code: 1}, 0).Retry)
	assert.True(t, policy.Decide(&graphretry.Error{Code: 131005}, 0).Retry)
	transport, events := eventsOf(t, failing(), opts...)
	assert.Equal(t, 400, sentStatus(t, transport, t.Context()))
	assert.Len(t, events(), 1, "the host is ours")
	assert.Equal(t, 400, sentStatus(t, transport, ctx))
	assert.Len(t, events(), 1, "retries are off for this call")
}

// failing is an API that refuses every request as wrong.
func failing() http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			req.Body.Close()
		}
		recorder := httptest.NewRecorder()
		recorder.WriteHeader(http.StatusBadRequest)
		io.WriteString(recorder, `{"error":{"message":"(#100) Invalid parameter","code":100}}`)
		return recorder.Result(), nil
	})
}

func TestBypassedCallGoesStraightToTheNextRoundTripper(t *testing.T) {
	want := &http.Response{StatusCode: 503, Body: io.NopCloser(strings.NewReader(`{"error":{"code":2}}`))}
	body := want.Body
	var got *http.Request
	transport, events := eventsOf(t, roundTripper(func(req *http.Request) (*http.Response, error) {
		got = req
		return want, nil
	}), graphretry.WithAttemptTimeout(time.Minute))
	req := message(t, graphretry.ContextBypass(t.Context()))
	resp, err := transport.RoundTrip(req)
	assert.NoError(t, err)
	assert.Same(t, req, got)
	assert.Same(t, want, resp)
	assert.Equal(t, body, resp.Body, "neither read nor wrapped")
	assert.Empty(t, events())
}

func TestBypassedCallDoesNotSeeTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := graphtest.New()
		transport, events := eventsOf(t, api, graphretry.WithOutageThreshold(1), graphretry.WithMaxElapsedTime(time.Second))
		api.AnswerNext(1, graphtest.Answer{Code: 2})
		assert.Equal(t, 503, sentStatus(t, transport, t.Context()), "the gate is shut")
		before := len(events())
		assert.Equal(t, 200, sentStatus(t, transport, graphretry.ContextBypass(t.Context())))
		assert.Len(t, events(), before)
		_, err := transport.RoundTrip(message(t, t.Context()))
		assert.ErrorIs(t, err, graphretry.ErrOutage, "the gate is shut still")
	})
}

func TestOnlyCallsToItsHostsAreATransports(t *testing.T) {
	for _, test := range []struct {
		hosts []string // none: the default
		url   string
		ours  bool
	}{
		{nil, "https://graph.facebook.com/v23.0/me", true},
		{nil, "https://graph.facebook.com:443/v23.0/me", true},
		{nil, "https://graph.facebook.com:8443/v23.0/me", true},
		{nil, "http://graph.facebook.com/v23.0/me", true},
		{nil, "https://GRAPH.Facebook.com/v23.0/me", true},
		{nil, "https://user:password@graph.facebook.com/v23.0/me", true},
		{nil, "https://graph.facebook.com?fields=id", true},
		{nil, "https://facebook.com/graph.facebook.com", false},
		{nil, "https://graph.facebook.com.example.com/", false},
		{nil, "https://xgraph.facebook.com/", false},
		{nil, "https://beta.graph.facebook.com/", false},
		{nil, "https://graph.facebook.comx/", false},
		{nil, "https://graph-facebook.com/", false},
		{nil, "https://graph.instagram.com/", false},
		{nil, "https://lookaside.fbsbx.com/whatsapp_business/attachments/", false},
		{nil, "https://example.com:443/?host=graph.facebook.com", false},
		{nil, "https://graph.facebook.com@example.com/", false},

		{[]string{"example.com"}, "https://graph.facebook.com/", false},
		{[]string{"example.com", "graph.facebook.com"}, "https://graph.facebook.com/", true},
		{[]string{"Example.COM"}, "https://eXAMPLE.com/", true},
		{[]string{"example.com"}, "https://example.com:1234/", true},
		{[]string{"example.com:443"}, "https://example.com/", true},
		{[]string{"example.com:443"}, "https://example.com:443/", true},
		{[]string{"example.com:443"}, "http://example.com:443/", true},
		{[]string{"example.com:443"}, "http://example.com/", false},
		{[]string{"example.com:443"}, "https://example.com:8443/", false},
		{[]string{"example.com:80"}, "http://EXAMPLE.com/", true},
		{[]string{"example.com:80"}, "https://example.com/", false},
		{[]string{"127.0.0.1"}, "http://127.0.0.1:39123/", true},
		{[]string{"127.0.0.1:8080"}, "http://127.0.0.1:8080/", true},
		{[]string{"127.0.0.1:8080"}, "http://127.0.0.1:8081/", false},
		{[]string{"::1"}, "http://[::1]:8080/", true},
		{[]string{"::1"}, "http://[::1]/", true},
		{[]string{"[::1]"}, "http://[::1]:8080/", true},
		{[]string{"[::1]:8080"}, "http://[::1]:8080/", true},
		{[]string{"[::1]:8080"}, "http://[::1]/", false},
		{[]string{"[::1]:80"}, "http://[::1]/", true},
		{[]string{"2001:DB8::A"}, "http://[2001:db8::a]/", true},
		{[]string{"::1"}, "http://[::2]/", false},
	} {
		t.Run(strings.Join(test.hosts, ",")+" "+test.url, func(t *testing.T) {
			var opts []graphretry.Option
			if test.hosts != nil {
				opts = append(opts, graphretry.WithHosts(test.hosts...))
			}
			transport, events := eventsOf(t, failing(), opts...)
			req, err := http.NewRequest(http.MethodGet, test.url, nil)
			require.NoError(t, err)
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			resp.Body.Close()
			assert.Equal(t, test.ours, len(events()) == 1)
		})
	}
}

func TestCallToAnotherHostPassesThroughUntouchedUnreadAndUnwrapped(t *testing.T) {
	body := &closeCounter{Reader: unreadable{t}}
	want := &http.Response{StatusCode: 503, Body: body, ContentLength: -1}
	var got *http.Request
	transport, events := eventsOf(t, roundTripper(func(req *http.Request) (*http.Response, error) {
		got = req
		return want, nil
	}), graphretry.WithAttemptTimeout(time.Minute), graphretry.WithNetworkRetries())
	req, err := http.NewRequest(http.MethodGet, "https://lookaside.fbsbx.com/media", io.NopCloser(unreadable{t}))
	require.NoError(t, err)
	resp, err := transport.RoundTrip(req)
	assert.NoError(t, err)
	assert.Same(t, req, got)
	assert.Same(t, want, resp)
	assert.Same(t, body, resp.Body)
	assert.Zero(t, body.closed)
	assert.Empty(t, events())
}

// unreadable fails the test if it is read.
type unreadable struct{ t testing.TB }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, errors.New("this is not to be read")
}

func TestWrappedClientIsACopy(t *testing.T) {
	jar := new(cookieJar)
	redirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{Transport: failing(), Jar: jar, Timeout: time.Minute, CheckRedirect: redirect}
	wrapped, err := graphretry.WrapClient(client)
	require.NoError(t, err)
	assert.NotSame(t, client, wrapped)
	assert.IsType(t, roundTripper(nil), client.Transport, "the client itself stays as it was")
	assert.IsType(t, new(graphretry.Transport), wrapped.Transport)
	assert.Same(t, jar, wrapped.Jar)
	assert.Equal(t, time.Minute, wrapped.Timeout)
	assert.NotNil(t, wrapped.CheckRedirect)

	zero, err := graphretry.WrapClient(nil)
	require.NoError(t, err)
	assert.IsType(t, new(graphretry.Transport), zero.Transport)
	assert.Zero(t, zero.Timeout)
	assert.Nil(t, http.DefaultClient.Transport, "the default client stays as it was")
}

type cookieJar struct{ http.CookieJar }

func TestDefaultTransportIsTheOneOfTheConstruction(t *testing.T) {
	before := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = before })
	var calls int
	http.DefaultTransport = roundTripper(func(req *http.Request) (*http.Response, error) {
		calls++
		return failing().RoundTrip(req)
	})
	transport, err := graphretry.NewTransport(nil)
	require.NoError(t, err)
	http.DefaultTransport = transport // else it would call itself without end

	resp, err := new(http.Client).Do(message(t, t.Context()))
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 400, resp.StatusCode)
	assert.Equal(t, 1, calls)
}
