package outbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A number that has nothing to send says nothing of the host.
func TestHostIsHeldAlthoughSomeNumbersAreIdle(t *testing.T) {
	now := time.Now()
	l := lanes{
		probeWait: func(int) time.Duration { return time.Minute },
		onHeld:    func(string, string) {}, onUp: func(string) {},
		byNumber: make(map[string]*lane),
	}
	end := func(number string, says laneEnd) {
		assert.True(t, l.enter(number, now))
		l.leave(number, now, says, "why")
	}
	l.isOpen("idle", now)
	for range laneThreshold {
		end("1", laneAmbiguous)
	}
	assert.False(t, l.host.isHeld(), "of one number alone")
	for range laneThreshold {
		end("2", laneAmbiguous)
	}
	assert.True(t, l.host.isHeld())
	assert.False(t, l.enter("idle", now), "it waits for the probe, too")

	now = now.Add(time.Minute)
	end("1", laneUp)
	assert.False(t, l.host.isHeld())
	for range laneThreshold {
		end("3", laneAmbiguous)
	}
	assert.False(t, l.host.isHeld(), "1 has been answered")
}
