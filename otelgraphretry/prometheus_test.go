package otelgraphretry_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/otelgraphretry"
)

// program is a program of Prometheus's. Without it the test is skipped.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("skipped: there is no %s here, so this is not tested; Debian's package prometheus has it", name)
	}
	return path
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	promtool := program(t, "promtool")
	for _, arguments := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		output, err := exec.Command(promtool, arguments...).CombinedOutput()
		assert.NoError(t, err, "promtool %s:\n%s", strings.Join(arguments, " "), output)
	}
}

// alerts are the names of those in alerts.yaml.
func alerts(t *testing.T) (names []string) {
	t.Helper()
	for _, found := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(readFile(t, "alerts.yaml"), -1) {
		names = append(names, found[1])
	}
	require.NotEmpty(t, names)
	return names
}

func TestEachAlertHasATest(t *testing.T) {
	for _, alert := range alerts(t) {
		fires := regexp.MustCompile(`alertname: ` + alert + `\n +exp_alerts:`)
		assert.True(t, fires.MatchString(readFile(t, "alerts_test.yaml")), "no test in alerts_test.yaml has %s fire", alert)
	}
}

// exported is a Metrics whose values are served to Prometheus, as a program does it.
func exported(t *testing.T, opts ...otelgraphretry.Option) (*otelgraphretry.Metrics, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	require.NoError(t, err)
	metrics, err := otelgraphretry.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter)), opts...)
	require.NoError(t, err)
	return metrics, registry
}

// A metric that is renamed leaves an alert behind that never fires.
func TestAlertsAndDashboardNameMetricsThatAreExported(t *testing.T) {
	metrics, registry := exported(t, otelgraphretry.WithPaths(1))
	_, err := metrics.NewTransport(nil, graphretry.WithHosts("localhost:8080"))
	require.NoError(t, err)
	request := httptest.NewRequest(http.MethodGet, "http://localhost:8080/me", nil)
	for kind := graphretry.EventRetrying; kind <= graphretry.EventOutageEnded; kind++ {
		metrics.Observe(t.Context(), graphretry.Event{Kind: kind, Request: request, Graph: &graphretry.Error{Code: 2}, Wait: time.Second})
	}
	metrics.Observe(t.Context(), graphretry.Event{Kind: graphretry.EventOutageBegan, Request: request, Path: "/106540352242922/messages"})
	names := map[string]bool{}
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			names[family.GetName()+suffix] = true
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				names[label.GetName()] = true
			}
		}
	}
	named := regexp.MustCompile(`\b(graphretry_\w+|graph_\w+|error_\w+|server_\w+)\b`)
	for _, file := range []string{"alerts.yaml", "alerts_test.yaml", "dashboard.json"} {
		found := named.FindAllString(readFile(t, file), -1)
		assert.NotEmpty(t, found)
		for _, name := range found {
			assert.True(t, names[name], "%s names %s, which is not exported", file, name)
		}
	}
}

// Each number of series that the README gives is counted in what Prometheus scrapes.
func TestHostHasAsManySeriesAsTheREADMESays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics, registry := exported(t)
		api := graphtest.New()
		transport, err := metrics.NewTransport(api, graphretry.WithOutageThreshold(3))
		require.NoError(t, err)
		series := func() map[string]int {
			scrape := httptest.NewRecorder()
			promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(scrape, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			counted := map[string]int{}
			for _, line := range regexp.MustCompile(`(?m)^graphretry_\w+\{`).FindAllString(scrape.Body.String(), -1) {
				switch {
				case strings.HasPrefix(line, "graphretry_attempts"):
					counted["attempts"]++
				case strings.HasPrefix(line, "graphretry_wait_duration"):
					counted["wait.duration"]++
				case strings.HasPrefix(line, "graphretry_outage_duration"):
					counted["outage.duration"]++
				default:
					counted["plain"]++
				}
			}
			return counted
		}
		told := func(pattern string) int {
			found := regexp.MustCompile(pattern).FindStringSubmatch(readFile(t, "README.md"))
			require.NotNil(t, found, pattern)
			number, err := strconv.Atoi(found[1])
			require.NoError(t, err)
			return number
		}
		plain, zeros := told(`- (\d+) series for its calls`), told(`, (\d+) of which are there from the beginning`)
		outageDuration, waitDuration := told("- (\\d+) for `graphretry.outage.duration`"), told("- (\\d+) for `graphretry.wait.duration` for each class")
		assert.Equal(t, map[string]int{"plain": plain, "attempts": zeros}, series())

		sendOne := func() {
			resp, err := (&http.Client{Transport: transport}).Post(messagesURL, "application/json", strings.NewReader(message))
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
		}
		api.AnswerNext(1, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong})
		sendOne() // retrying, then recovered
		assert.Equal(t, map[string]int{"plain": plain, "attempts": zeros + 2, "wait.duration": waitDuration}, series())

		api.DownAfter(0, 3*time.Minute, graphtest.Answer{Code: graphretry.CodeAPIService})
		var senders sync.WaitGroup
		for range 10 {
			senders.Go(sendOne)
		}
		senders.Wait() // retrying, then recovered, with a code of another class
		assert.Equal(t, map[string]int{
			"plain": plain, "attempts": zeros + 4, "wait.duration": 2 * waitDuration, "outage.duration": outageDuration,
		}, series())
	})
}

// queries are those of the dashboard, by panel and legend, with its variables as
// Grafana would fill them in.
func queries(t *testing.T) map[string]string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(readFile(t, "dashboard.json")), &dashboard))
	fill := strings.NewReplacer("$__rate_interval", "1m", "$__range", "10m", "$host", ".*")
	found := map[string]string{}
	for _, panel := range dashboard.Panels {
		if panel.Type != "row" {
			assert.NotEmpty(t, panel.Targets, panel.Title)
		}
		for _, target := range panel.Targets {
			query := fill.Replace(target.Expr)
			assert.NotContains(t, query, "$", "a variable that this test does not know")
			found[panel.Title+": "+target.LegendFormat] = query
		}
	}
	return found
}

// What goes wrong with an API, over real connections, seen by a real Prometheus: each alert
// fires and ends, and each query of the dashboard has an answer in which something is above 0.
func TestAlertsFireAndEndOnARealPrometheus(t *testing.T) {
	path := program(t, "prometheus")
	metrics, registry := exported(t, otelgraphretry.WithPaths(10))
	api := graphtest.New()
	var isPathDown atomic.Bool
	const goodNumber, badNumber = "106540352242922", "222222222222222"
	graph := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if isPathDown.Load() && strings.Contains(req.URL.Path, badNumber) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write(graphtest.ErrorBody(graphretry.CodeServiceUnavailable))
			return
		}
		api.ServeHTTP(w, req)
	}))
	defer graph.Close()
	scraped := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer scraped.Close()
	server := startPrometheus(t, path, strings.TrimPrefix(scraped.URL, "http://"))

	transport, err := metrics.NewTransport(nil, graphretry.WithHosts(strings.TrimPrefix(graph.URL, "http://")),
		graphretry.WithOutageThreshold(3), graphretry.WithInitialInterval(20*time.Millisecond), graphretry.WithMaxInterval(100*time.Millisecond))
	require.NoError(t, err)
	defer func() { assert.NoError(t, transport.Unregister()) }()
	// send has some send, until the returned function is called.
	send := func(ctx context.Context, senders int, number string) (stop func()) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		for range senders {
			running.Go(func() { sendOnAndOn(ctx, transport, graph.URL+"/v25.0/"+number+"/messages") })
		}
		return func() {
			cancel()
			running.Wait()
		}
	}
	defer send(t.Context(), 6, goodNumber)()
	// Too impatient for any wait, so they give up.
	defer send(graphretry.ContextWithOptions(t.Context(), graphretry.WithMaxElapsedTime(time.Nanosecond)), 2, goodNumber)()

	missing := queries(t)
	require.Greater(t, len(missing), 10)
	fired := map[string]bool{}
	lost := time.Now().Add(3 * time.Minute) // it takes a minute
	// await asks Prometheus until it holds, and meanwhile what the dashboard asks.
	await := func(what, query string) {
		t.Helper()
		for len(server.query(t, query)) == 0 {
			require.True(t, time.Now().Before(lost), "waited for %s, and these were never above 0: %v", what, missing)
			time.Sleep(100 * time.Millisecond)
			for name, query := range missing {
				for _, sample := range server.query(t, query) {
					if sample > 0 {
						delete(missing, name)
					}
				}
			}
		}
	}
	awaitFiring := func(alerts ...string) {
		t.Helper()
		for _, alert := range alerts {
			await(alert+" to fire", fmt.Sprintf(`ALERTS{alertname=%q, alertstate="firing"}`, alert))
			fired[alert] = true
		}
	}
	awaitEnd := func(alerts ...string) {
		t.Helper()
		for _, alert := range alerts {
			await(alert+" to end", fmt.Sprintf(`absent(ALERTS{alertname=%q, alertstate="firing"})`, alert))
		}
	}

	await("the host to be up", `graphretry_host_state{graphretry_state="up"} == 1`)
	api.AnswerShare(0.1, graphtest.Answer{Code: graphretry.CodeUserExperiment})
	api.AnswerShare(0.1, graphtest.Answer{Code: 368})
	api.AnswerShare(0.1, graphtest.Answer{Code: graphretry.CodeSomethingWentWrong})
	awaitFiring("GraphAPIExperiments", "GraphAPIAccountProblem", "GraphAPIGaveUp")
	api.Clear()
	awaitEnd("GraphAPIExperiments", "GraphAPIAccountProblem", "GraphAPIGaveUp")

	api.Down(time.Hour, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
	awaitFiring("GraphAPIOutage", "GraphAPICallsWaiting")

	// It comes back, and bears less than it is asked for.
	stop := send(t.Context(), 20, goodNumber)
	api.Clear()
	api.SetLimit(10, graphtest.Answer{})
	awaitFiring("GraphAPISlowed")
	api.Clear()
	stop()
	awaitEnd("GraphAPISlowed", "GraphAPIOutage", "GraphAPICallsWaiting")

	isPathDown.Store(true)
	stop = send(t.Context(), 3, badNumber)
	awaitFiring("GraphAPIPathOutage")
	isPathDown.Store(false)
	awaitEnd("GraphAPIPathOutage")
	stop()

	for _, alert := range alerts(t) {
		assert.True(t, fired[alert], "%s never fired", alert)
	}
	assert.Empty(t, missing, "these queries of the dashboard were never above 0")
	assert.Equal(t, []string{"127.0.0.1"}, server.labelValues(t, "graphretry_calls_total", "server_address"), "the dashboard's variable")
}

// sendOnAndOn sends messages, whatever becomes of them, until the context ends.
func sendOnAndOn(ctx context.Context, transport http.RoundTripper, messagesURL string) {
	client := &http.Client{Transport: transport}
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, messagesURL, strings.NewReader(message))
		if err != nil {
			panic(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
		select {
		case <-time.After(200 * time.Millisecond): // 5 messages a second at most
		case <-ctx.Done():
		}
	}
}

// shortened returns alerts.yaml with each duration divided, so that what takes an hour is seen
// in seconds. alerts_test.yaml has them as they are.
func shortened(t *testing.T, by time.Duration) string {
	t.Helper()
	durations := regexp.MustCompile(`(\[|offset |for: )(\d+[smh])\b`)
	return durations.ReplaceAllStringFunc(readFile(t, "alerts.yaml"), func(found string) string {
		parts := durations.FindStringSubmatch(found)
		duration, err := time.ParseDuration(parts[2])
		require.NoError(t, err)
		return fmt.Sprintf("%s%dms", parts[1], (duration / by).Milliseconds())
	})
}

// prometheusServer is a running Prometheus.
type prometheusServer struct{ url string }

// startPrometheus starts one that scrapes the target, with the alerts of this folder
// shortened, and ends it with the test.
func startPrometheus(t *testing.T, path, target string) prometheusServer {
	t.Helper()
	alerts := filepath.Join(t.TempDir(), "alerts.yaml")
	require.NoError(t, os.WriteFile(alerts, []byte(shortened(t, 300)), 0o600))
	configuration := filepath.Join(t.TempDir(), "prometheus.yml")
	require.NoError(t, os.WriteFile(configuration, fmt.Appendf(nil, `
global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}
rule_files: [%q]
scrape_configs: [{job_name: graphretry, static_configs: [{targets: [%q]}]}]
`, alerts, target), 0o600))
	command := exec.Command(path, "--config.file", configuration, "--storage.tsdb.path", t.TempDir(), "--web.listen-address", "127.0.0.1:0")
	log, err := command.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())

	address, read := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(read)
		defer close(address)
		listening := regexp.MustCompile(`msg="Listening on".* address=(\S+)`)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if found := listening.FindStringSubmatch(lines.Text()); found != nil {
				address <- found[1]
			} else if strings.Contains(lines.Text(), "level=error") || strings.Contains(lines.Text(), "level=ERROR") {
				t.Log(lines.Text())
			}
		}
	}()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		<-read
		_ = command.Wait()
	})
	at, ok := <-address
	require.True(t, ok, "prometheus did not say where it listens")
	return prometheusServer{"http://" + at}
}

// get asks the API of Prometheus, https://prometheus.io/docs/prometheus/latest/querying/api/.
func (s prometheusServer) get(t *testing.T, path string, parameters url.Values, data any) {
	t.Helper()
	resp, err := http.Get(s.url + path + "?" + parameters.Encode())
	require.NoError(t, err)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return // it starts
	}
	var answer struct {
		Error string
		Data  json.RawMessage
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Empty(t, answer.Error, parameters)
	require.NoError(t, json.Unmarshal(answer.Data, data))
}

// query returns the value of each series that the query has now.
func (s prometheusServer) query(t *testing.T, query string) []float64 {
	t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	s.get(t, "/api/v1/query", url.Values{"query": {query}}, &data)
	var values []float64
	for _, series := range data.Result {
		value, err := strconv.ParseFloat(series.Value[1].(string), 64)
		require.NoError(t, err)
		values = append(values, value)
	}
	return values
}

func (s prometheusServer) labelValues(t *testing.T, metric, label string) []string {
	t.Helper()
	var values []string
	s.get(t, "/api/v1/label/"+label+"/values", url.Values{"match[]": {metric}}, &values)
	return values
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(content)
}
