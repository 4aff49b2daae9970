package oteloutbox_test

import (
	"bufio"
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
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
	"github.com/graphretry/graphretry/outbox"
	"github.com/graphretry/graphretry/outbox/oteloutbox"
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
		assert.Contains(t, readFile(t, "README.md"), "| `"+alert+"` |")
	}
}

// exported is a Metrics whose values are served to Prometheus, as a program does it.
func exported(t *testing.T, opts ...oteloutbox.Option) (*oteloutbox.Metrics, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	require.NoError(t, err)
	metrics, err := oteloutbox.New(sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter)), opts...)
	require.NoError(t, err)
	return metrics, registry
}

// exportedAll has each metric have a value.
func exportedAll(t *testing.T, opts ...oteloutbox.Option) *prometheus.Registry {
	t.Helper()
	metrics, registry := exported(t, opts...)
	m := newMeasured(t)
	m.enqueue(phoneNumberID, "a")
	_, err := metrics.Register(m.Outbox)
	require.NoError(t, err)
	for _, event := range []outbox.Event{
		{Kind: outbox.EventOutcome, Outcome: outbox.OutcomeSent},
		{Kind: outbox.EventAttempted, Graph: &graphretry.Error{Code: 190}},
	} {
		event.Outbox, event.PhoneNumberID = "graphretry", phoneNumberID
		metrics.Observe(t.Context(), event)
	}
	return registry
}

// A metric that is renamed leaves an alert behind that never fires.
func TestAlertsAndDashboardNameMetricsThatAreExported(t *testing.T) {
	families, err := exportedAll(t, oteloutbox.WithPhoneNumbers(1)).Gather()
	require.NoError(t, err)
	names := map[string]bool{}
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
	named := regexp.MustCompile(`\b(graphretry_\w+|graph_\w+|error_\w+)\b`)
	for _, file := range []string{"alerts.yaml", "alerts_test.yaml", "dashboard.json"} {
		found := named.FindAllString(readFile(t, file), -1)
		assert.NotEmpty(t, found)
		for _, name := range found {
			assert.True(t, names[name] || name == "graphretry_outcome", "%s names %s, which is not exported", file, name)
		}
	}
}

// Each number of series that the README gives is counted in what Prometheus scrapes.
func TestOutboxHasAsManySeriesAsTheREADMESays(t *testing.T) {
	series := func(opts ...oteloutbox.Option) map[string]int {
		scrape := httptest.NewRecorder()
		promhttp.HandlerFor(exportedAll(t, opts...), promhttp.HandlerOpts{}).ServeHTTP(scrape, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		counted := map[string]int{}
		for _, line := range regexp.MustCompile(`(?m)^graphretry_\w+\{.*`).FindAllString(scrape.Body.String(), -1) {
			switch {
			case strings.HasPrefix(line, "graphretry_outbox_outcomes"), strings.HasPrefix(line, "graphretry_outbox_sender"):
				counted["counters"]++
			case strings.HasPrefix(line, "graphretry_outbox_wait"):
				counted["wait"]++
			default:
				counted["gauges"]++
				if strings.Contains(line, "phone_number_id") {
					counted["gauges of a number"]++
				}
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
	gauges, wait := told(`- (\d+) series for what is in the database`), told("- (\\d+) for `graphretry.outbox.wait`")
	assert.Equal(t, map[string]int{"gauges": gauges, "wait": wait, "counters": 2}, series())
	assert.Equal(t, map[string]int{"gauges": gauges, "wait": wait, "counters": 2, "gauges of a number": told("With `WithPhoneNumbers`, (\\d+) of the 12")},
		series(oteloutbox.WithPhoneNumbers(1)))
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
	fill := strings.NewReplacer("$__rate_interval", "1m", "$outbox", ".*")
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

// An outbox that gets into every trouble there is an alert for, and out of it, seen by a real
// Prometheus through two processes: each alert fires once, and ends. Each query of the
// dashboard has an answer in which something is above 0.
func TestAlertsFireAndEndOnARealPrometheus(t *testing.T) {
	path := program(t, "prometheus")
	m := newMeasured(t)
	const other = "111"
	var targets []string
	var unregister []func() error
	var o *outbox.Outbox // the process that sends; the other one only looks
	for range 2 {
		metrics, registry := exported(t)
		var err error
		o, err = outbox.Open(t.Context(), outbox.SQLite(m.db), m.api, outbox.WithObserver(metrics.Observe),
			outbox.WithTransportOptions(graphretry.WithInitialInterval(20*time.Millisecond), graphretry.WithMaxInterval(100*time.Millisecond)))
		require.NoError(t, err)
		defer func() { assert.NoError(t, o.Close()) }()
		registration, err := metrics.Register(o)
		require.NoError(t, err)
		unregister = append(unregister, registration.Unregister)
		scraped := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
		defer scraped.Close()
		targets = append(targets, strings.TrimPrefix(scraped.URL, "http://"))
	}
	server := startPrometheus(t, path, targets...)

	missing := queries(t)
	require.Greater(t, len(missing), 10)
	fired := map[string]bool{}
	lost := time.Now().Add(3 * time.Minute) // it takes half a minute
	enqueued := 0
	// await asks Prometheus until it holds. Meanwhile it enqueues messages, and asks what the
	// dashboard asks.
	await := func(what, query string) {
		t.Helper()
		for len(server.query(t, query)) == 0 {
			require.True(t, time.Now().Before(lost), "waited for %s, and these were never above 0: %v", what, missing)
			time.Sleep(50 * time.Millisecond)
			enqueued++
			m.enqueue(other, fmt.Sprint("message ", enqueued))
			for name, query := range missing {
				for _, sample := range server.query(t, query) {
					if sample > 0 {
						delete(missing, name)
					}
				}
			}
		}
	}
	awaitFiring := func(alert string) {
		t.Helper()
		await(alert+" to fire", fmt.Sprintf(`ALERTS{alertname=%q, alertstate="firing"}`, alert))
		fired[alert] = true
		assert.Len(t, server.query(t, fmt.Sprintf(`ALERTS{alertname=%q}`, alert)), 1, "two processes tell the same")
	}
	awaitEnd := func(alert string) {
		t.Helper()
		require.True(t, fired[alert])
		await(alert+" to end", fmt.Sprintf(`absent(ALERTS{alertname=%q, alertstate="firing"})`, alert))
	}

	m.enqueue(phoneNumberID, "old")
	m.execute("UPDATE graphretry_queue SET place = " + agoMinutes20)
	awaitFiring("OutboxNoRun")
	awaitFiring("OutboxOldestMessage")
	stop := run(t, o)
	defer func() { stop() }()
	awaitEnd("OutboxNoRun")
	awaitEnd("OutboxOldestMessage")

	m.api.AnswerShare(0.1, graphtest.Answer{Fault: graphtest.FaultBreak})
	m.api.AnswerShare(0.2, graphtest.Answer{Code: graphretry.CodeUserExperiment})
	awaitFiring("OutboxUnknownMessages")
	m.api.Clear()
	await("all messages to be sent", `max(graphretry_outbox_messages{graphretry_state="queued"}) < 5`)
	_, err := m.DropAll(t.Context(), outbox.Filter{States: []outbox.State{outbox.StateUnknown}})
	require.NoError(t, err)
	awaitEnd("OutboxUnknownMessages")

	m.api.Down(time.Hour, graphtest.Answer{Code: 190})
	await("a number to be held", "graphretry_outbox_held > 0")
	m.execute("UPDATE graphretry_number SET held_at = " + agoMinutes20 + " WHERE probe_at > 0")
	awaitFiring("OutboxSenderFailures")
	awaitFiring("OutboxNumberHeld")
	require.NoError(t, m.Pause(t.Context(), phoneNumberID))
	await("a pause", "graphretry_outbox_paused > 0")
	m.api.Clear()
	awaitEnd("OutboxNumberHeld")
	awaitEnd("OutboxSenderFailures")

	await("a live Run", `graphretry_outbox_runs{graphretry_state="live"} > 0`)
	for _, unregister := range unregister {
		require.NoError(t, unregister()) // as if the database did not answer
	}
	await("no gauge", "absent(graphretry_outbox_runs)")
	awaitFiring("OutboxNoRun")

	for _, alert := range alerts(t) {
		assert.True(t, fired[alert], "%s never fired", alert)
	}
	assert.Empty(t, missing, "these queries of the dashboard were never above 0")
	assert.Equal(t, []string{"graphretry"}, server.labelValues(t, "graphretry_outbox_runs", "graphretry_outbox_name"), "the dashboard's variable")
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

// startPrometheus starts one that scrapes the targets, with the alerts of this folder
// shortened, and ends it with the test.
func startPrometheus(t *testing.T, path string, targets ...string) prometheusServer {
	t.Helper()
	alerts := filepath.Join(t.TempDir(), "alerts.yaml")
	require.NoError(t, os.WriteFile(alerts, []byte(shortened(t, 300)), 0o600))
	list, err := json.Marshal(targets)
	require.NoError(t, err)
	configuration := filepath.Join(t.TempDir(), "prometheus.yml")
	require.NoError(t, os.WriteFile(configuration, fmt.Appendf(nil, `
global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}
rule_files: [%q]
scrape_configs: [{job_name: outbox, static_configs: [{targets: %s}]}]
`, alerts, list), 0o600))
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
