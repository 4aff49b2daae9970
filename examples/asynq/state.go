package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graphretry/graphretry"
)

// State is what became of a task's last attempt. A task carries no state, so it has a key of
// its own in Redis.
type State struct {
	graphretry.Decision
	FailedIDs []string // messages of this task that Meta has reported as failed
}

const (
	keep     = 90 * 24 * time.Hour // how long Asynq keeps an archived task
	keepSent = 24 * time.Hour      // how late a worker that stalled can come back
)

// key returns the key of a task's state.
func key(id string) string { return "whatsapp:" + id }

// load returns a task's state, and as it is stored; the zero State and "" before its first
// attempt.
func load(ctx context.Context, client redis.UniversalClient, id string) (state State, stored string, err error) {
	stored, err = client.Get(ctx, key(id)).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return State{}, "", nil
	case err != nil:
		return State{}, "", err
	}
	err = json.Unmarshal([]byte(stored), &state)
	return state, stored, err
}

// replace stores a task's state, and returns what was stored before, in one step.
func replace(ctx context.Context, client redis.UniversalClient, id string, state State) (before string, err error) {
	encoded, err := json.Marshal(state)
	if err != nil {
		return "", err
	}
	expires := keep
	if state.Outcome == graphretry.OutcomeSent {
		expires = keepSent
	}
	before, err = client.SetArgs(ctx, key(id), encoded, redis.SetArgs{Get: true, TTL: expires}).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil // there was none
	}
	return before, err
}
