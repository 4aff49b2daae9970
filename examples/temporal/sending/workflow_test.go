package sending

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/examples/queue/webhook"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
	"github.com/graphretry/graphretry/graphtest"
)

var message = whatsapp.Message{From: "106540352242922", To: "15550001111", Text: "Your table is booked."}

// bench is Temporal's test suite, whose time is virtual, and a fake API.
type bench struct {
	*testsuite.TestWorkflowEnvironment
	api *graphtest.API
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{new(testsuite.WorkflowTestSuite).NewTestWorkflowEnvironment(), graphtest.New()}
	b.SetTestTimeout(time.Minute)
	sender, err := whatsapp.NewSender(b.api, whatsapp.BaseURL, "EAAJ-example")
	require.NoError(t, err)
	b.RegisterActivity(&Activities{sender})
	b.RegisterWorkflow(SendMessage)
	b.RegisterWorkflow(SendMessageByActivityRetries)
	return b
}

// answers has the API answer with each in turn, then accept.
func (b *bench) answers(answers ...graphtest.Answer) *bench {
	for _, answer := range answers {
		b.api.AnswerNext(1, answer)
	}
	return b
}

// run runs a workflow, and returns how it ended.
func (b *bench) run(t *testing.T, workflow any) error {
	t.Helper()
	b.ExecuteWorkflow(workflow, message)
	require.True(t, b.IsWorkflowCompleted())
	return b.GetWorkflowError()
}

// typeOf returns the type of the application error that a workflow ended with.
func typeOf(t *testing.T, err error) string {
	t.Helper()
	var failed *temporal.ApplicationError
	for unwrapped := err; unwrapped != nil; unwrapped = errors.Unwrap(unwrapped) {
		errors.As(unwrapped, &failed)
	}
	require.NotNil(t, failed, "%v", err)
	return failed.Type()
}

var both = map[string]any{"by the workflow": SendMessage, "by the activity's retries": SendMessageByActivityRetries}

func TestTwoThen131000IsSent(t *testing.T) {
	for name, workflow := range both {
		b := newBench(t).answers(graphtest.Answer{Code: 2}, graphtest.Answer{Code: 131000})
		began := b.Now()
		require.NoError(t, b.run(t, workflow), name)
		assert.Len(t, b.api.Calls(), 3, name)
		require.Len(t, b.api.Accepted(), 1, name)
		assert.NotEmpty(t, b.api.Accepted()[0].CallbackData)
		assert.GreaterOrEqual(t, b.Now().Sub(began), 15*time.Second, "%s: 5 s, and then 10", name)
	}
}

func Test131000IsRetriedOnceAndToldInTheFailure(t *testing.T) {
	for name, workflow := range both {
		b := newBench(t).answers(graphtest.Answer{Code: 131000}, graphtest.Answer{Code: 131000})
		err := b.run(t, workflow)
		assert.Equal(t, "Failed", typeOf(t, err), name)
		assert.ErrorContains(t, err, "131000", name)
		assert.Len(t, b.api.Calls(), 2, name)
	}
}

func TestExpiredTokenIsWaitedForUpToADay(t *testing.T) {
	for name, workflow := range both {
		b := newBench(t)
		b.api.AnswerNext(9, graphtest.Answer{Code: 190}) // the test suite has 10 attempts at most, where a server has no limit
		require.NoError(t, b.run(t, workflow), name)
		assert.Len(t, b.api.Calls(), 10, name)
	}
	b := newBench(t)
	b.api.AnswerNext(10000, graphtest.Answer{Code: 190})
	// Send takes the job's age by the wall clock, so the job is made old.
	b.SetStartTime(time.Now().Add(-25 * time.Hour))
	assert.Equal(t, "Failed", typeOf(t, b.run(t, SendMessage)))
	assert.Len(t, b.api.Calls(), 1)
}

func TestHTMLParksAndAWebhookSettles(t *testing.T) {
	for name, report := range map[string]webhook.Report{
		"sent":   {MessageID: "wamid.A"},
		"failed": {MessageID: "wamid.A", Graph: &graphretry.Error{Code: 131026}},
	} {
		b := newBench(t).answers(graphtest.Answer{Status: 502, Accept: true})
		b.RegisterDelayedCallback(func() {
			assert.False(t, b.IsWorkflowCompleted())
			assert.Len(t, b.api.Calls(), 1)
			b.SignalWorkflow(ReportSignal, report)
		}, time.Hour)
		err := b.run(t, SendMessage)
		if name == "sent" {
			require.NoError(t, err)
		} else {
			assert.Equal(t, "Failed", typeOf(t, err))
		}
		assert.Len(t, b.api.Calls(), 1)
	}
}

// 131000 by webhook is sent again, once; the same webhook again is not of the new message.
func TestReportOfAnAttemptBeforeIsPassedOver(t *testing.T) {
	broken := graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true}
	b := newBench(t).answers(broken, broken)
	first := webhook.Report{MessageID: "wamid.A", Graph: &graphretry.Error{Code: 131000}}
	b.RegisterDelayedCallback(func() { b.SignalWorkflow(ReportSignal, first) }, time.Hour)
	b.RegisterDelayedCallback(func() { b.SignalWorkflow(ReportSignal, first) }, 2*time.Hour)
	b.RegisterDelayedCallback(func() {
		assert.False(t, b.IsWorkflowCompleted())
		assert.Len(t, b.api.Calls(), 2)
		b.SignalWorkflow(ReportSignal, webhook.Report{MessageID: "wamid.B", Graph: &graphretry.Error{Code: 131000}})
	}, 3*time.Hour)
	assert.Equal(t, "Failed", typeOf(t, b.run(t, SendMessage)))
	assert.Len(t, b.api.Calls(), 2)
}

func TestMessageOfAKilledWorkerIsNotSentAgain(t *testing.T) {
	killed := temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)
	b := newBench(t)
	var activities *Activities
	b.OnActivity(activities.Attempt, mock.Anything, mock.Anything, mock.Anything).Return(graphretry.Decision{}, killed).Once()
	b.RegisterDelayedCallback(func() {
		assert.False(t, b.IsWorkflowCompleted())
		assert.Empty(t, b.api.Calls())
		b.SignalWorkflow(ReportSignal, webhook.Report{MessageID: "wamid.A"})
	}, time.Hour)
	require.NoError(t, b.run(t, SendMessage))
	assert.Empty(t, b.api.Calls())
}

func TestActivityRetriesEndWhereAMessageMayHaveBeenSent(t *testing.T) {
	b := newBench(t).answers(graphtest.Answer{Status: 502})
	assert.Equal(t, "Unknown", typeOf(t, b.run(t, SendMessageByActivityRetries)))
	assert.Len(t, b.api.Calls(), 1)
}
