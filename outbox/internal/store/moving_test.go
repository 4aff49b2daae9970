package store

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/outbox/internal/message"
)

// A message that a Run takes and gives back is queued all the time.
func TestNoMessageIsMissedThatMovesWhileItIsListed(t *testing.T) {
	onEach(t, func(t *testing.T, s *Store) {
		const n = 20
		require.NoError(t, s.Enqueue(t.Context(), news(n)))
		require.NoError(t, s.Begin(t.Context(), run))
		ctx, stop := context.WithCancel(t.Context())
		moved := make(chan error, 1)
		go func() {
			for ctx.Err() == nil {
				claims, err := s.Take(t.Context(), run, map[string]int{number: n}, false, false)
				for i := range claims {
					if err == nil {
						err = s.GiveBack(t.Context(), &claims[i], "", claims[i].Due)
					}
				}
				if err != nil {
					moved <- err
					return
				}
			}
			moved <- nil
		}()
		for range 100 {
			listed, err := s.List(t.Context(), Filter{States: []message.State{message.StateQueued}})
			require.NoError(t, err)
			if !assert.Len(t, listed, n) {
				break
			}
		}
		stop()
		require.NoError(t, <-moved)
	})
}
