package graphretry_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
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
		"initial above the maximum": {graphretry.WithInitialInterval(time.Hour), []string{"WithInitialInterval(1h0m0s) is above WithMaxInterval(3m0s) (the default)", "at most the maximum"}},
		"maximum below the initial": {graphretry.WithMaxInterval(time.Second), []string{"WithInitialInterval(5s) (the default) is above WithMaxInterval(1s)", "at most the maximum"}},
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
		"host with a path":          {graphretry.WithHosts("graph.facebook.com/v25.0"), []string{`WithHosts("graph.facebook.com/v25.0")`}},
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

func TestErrorOfABadOptionNamesItAndItsValue(t *testing.T) {
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

func TestOptionsCopyTheirArguments(t *testing.T) {
	hosts := []string{"graph.facebook.com"}
	codes := []graphretry.Code{1}
	opts := []graphretry.Option{graphretry.WithHosts(hosts...), graphretry.WithRetryOn(1, 1), graphretry.WithRetryOn(131005, 1), graphretry.WithoutRetryOn(codes...)}
	perCall := []graphretry.Option{graphretry.WithMaxRetries(0)}
	ctx := graphretry.ContextWithOptions(t.Context(), perCall...)
	hosts[0], codes[0], perCall[0] = "graph.example.com", 131005, graphretry.WithMaxRetries(-1)

	policy := policyWith(t, opts...)
	assert.False(t, decide(policy, &graphretry.Error{Code: 1}, 0).Retry)
	assert.True(t, decide(policy, &graphretry.Error{Code: 131005}, 0).Retry)
	transport, events := eventsOf(t, failing(), opts...)
	assert.Equal(t, 400, sentStatus(t, transport, t.Context()))
	assert.Len(t, events(), 1, "the host is ours")
	assert.Equal(t, 400, sentStatus(t, transport, ctx))
	assert.Len(t, events(), 1, "retries are off for this call")
}
