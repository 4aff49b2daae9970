//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/graphretry/graphretry/examples/queue/queuetest"
	"github.com/graphretry/graphretry/examples/queue/whatsapp"
)

func TestMain(m *testing.M) { queuetest.Main(m, work) }

// work is a worker process.
func work(ctx context.Context, process queuetest.Process) error {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: process.Server, PoolSize: 40})
	defer client.Close()
	sender, err := whatsapp.NewSender(http.DefaultTransport, process.BaseURL, "token", process.Options()...)
	if err != nil {
		return err
	}
	config := config()
	config.LogLevel = asynq.FatalLevel
	config.DelayedTaskCheckInterval, config.TaskCheckInterval = 250*time.Millisecond, 250*time.Millisecond
	config.RetryDelayFunc = func(n int, err error, task *asynq.Task) time.Duration {
		if errors.Is(err, asynq.ErrLeaseExpired) {
			return 0 // by default up to 45 s
		}
		return RetryDelay(n, err, task)
	}
	server := asynq.NewServerFromRedisClient(client, config)
	if err := server.Start(&Worker{sender, client}); err != nil {
		return err
	}
	<-ctx.Done()
	server.Shutdown()
	return nil
}

func TestWorldOnRedis(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			socket := queuetest.Redis(t)
			client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
			defer client.Close()
			queuetest.Run(t, queueOn(client, socket), signal)
		})
	}
}

// queueOn returns Asynq's queue on a Redis server.
func queueOn(client *redis.Client, socket string) queuetest.Queue {
	tasks, inspector := asynq.NewClientFromRedisClient(client), asynq.NewInspectorFromRedisClient(client)
	return queuetest.Queue{
		Server: socket,
		Enqueue: func(ctx context.Context, texts []string) error {
			for _, text := range texts {
				task, err := newTask(whatsapp.Message{From: "106540352242922", To: "15550001111", Text: text})
				if err != nil {
					return err
				}
				if _, err := tasks.EnqueueContext(ctx, task); err != nil {
					return err
				}
			}
			return nil
		},
		Jobs: func(ctx context.Context) ([]queuetest.Job, error) {
			waiting, parked, failed, err := list(ctx, client, inspector)
			if err != nil {
				return nil, err
			}
			var jobs []queuetest.Job
			for state, infos := range map[queuetest.State][]*asynq.TaskInfo{
				queuetest.StateWaiting: waiting, queuetest.StateParked: parked, queuetest.StateFailed: failed,
			} {
				for _, info := range infos {
					var message Message
					if err := json.Unmarshal(info.Payload, &message); err != nil {
						return nil, err
					}
					jobs = append(jobs, queuetest.Job{Text: message.Text, State: state, Cause: info.LastErr})
				}
			}
			return jobs, nil
		},
		// A lease lasts 30 s, and Asynq waits for 30 s more.
		Expire: func(ctx context.Context) error {
			const leases = "asynq:{" + queue + "}:lease"
			ids, err := client.ZRange(ctx, leases, 0, -1).Result()
			for _, id := range ids {
				if err := client.ZAdd(ctx, leases, redis.Z{Score: 0, Member: id}).Err(); err != nil {
					return err
				}
			}
			return err
		},
	}
}
