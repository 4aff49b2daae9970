//go:build unix

// Package world tests the workflow on a Temporal server inside the test. To build the server
// takes minutes, so it has a go.mod of its own, world.mod, and no test of ./... runs it.
package world

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/server/temporaltest"

	"github.com/graphretry/graphretry/examples/queue/queuetest"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
	"github.com/graphretry/graphretry/examples/temporal/sending"
)

func TestMain(m *testing.M) { queuetest.Main(m, work) }

// dial connects to a server, which is given as its address and the namespace.
func dial(server string) (client.Client, error) {
	address, namespace, _ := strings.Cut(server, "/")
	return client.Dial(client.Options{HostPort: address, Namespace: namespace, Logger: slog.New(slog.DiscardHandler)})
}

// work is a worker process.
func work(ctx context.Context, process queuetest.Process) error {
	c, err := dial(process.Server)
	if err != nil {
		return err
	}
	defer c.Close()
	sender, err := whatsapp.NewSender(http.DefaultTransport, process.BaseURL, "EAAJ-example", process.Options()...)
	if err != nil {
		return err
	}
	w := sending.NewWorker(c, sender)
	if err := w.Start(); err != nil {
		return err
	}
	<-ctx.Done()
	w.Stop()
	return nil
}

func TestWorldOnAServer(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			server := temporaltest.NewServer(temporaltest.WithT(t))
			queuetest.Run(t, queueOn(t, server.GetFrontendHostPort()+"/"+server.GetDefaultNamespace()), signal)
		})
	}
}

// queueOn returns the workflows of a server as a queue. The ID of a workflow is its
// message's text.
func queueOn(t *testing.T, server string) queuetest.Queue {
	c, err := dial(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	causes := map[string]string{} // of those that have failed
	return queuetest.Queue{
		Server: server,
		Enqueue: func(ctx context.Context, texts []string) error {
			for _, text := range texts {
				message := whatsapp.Message{From: "106540352242922", To: "15550001111", Text: text}
				if _, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: text, TaskQueue: sending.TaskQueue}, sending.SendMessage, message); err != nil {
					return err
				}
			}
			return nil
		},
		Jobs: func(ctx context.Context) ([]queuetest.Job, error) {
			var jobs []queuetest.Job
			var next []byte
			for {
				page, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{PageSize: 500, NextPageToken: next})
				if err != nil {
					return nil, err
				}
				for _, info := range page.GetExecutions() {
					id := info.GetExecution().GetWorkflowId()
					job := queuetest.Job{Text: id}
					parked, isParked := info.GetMemo().GetFields()["parked"]
					switch {
					case info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
						job.State = queuetest.StateSent
					case info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
						job.State = queuetest.StateFailed
						if causes[id] == "" {
							causes[id] = c.GetWorkflow(ctx, id, "").Get(ctx, nil).Error()
						}
						job.Cause = causes[id]
					case isParked:
						job.State = queuetest.StateParked
						if err := converter.GetDefaultDataConverter().FromPayload(parked, &job.Cause); err != nil {
							return nil, err
						}
					}
					jobs = append(jobs, job)
				}
				if next = page.GetNextPageToken(); len(next) == 0 {
					return jobs, nil
				}
			}
		},
		// A killed worker is missed at the StartToCloseTimeout, which cannot be hastened.
		Expire: func(context.Context) error { return nil },
	}
}
