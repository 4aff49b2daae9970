package page

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry/outbox"
)

func TestRateIsThatSinceALookSomeSecondsAgo(t *testing.T) {
	var r rates
	now := time.Now()
	// look returns the rate of a number that has sent that many messages after that many
	// seconds.
	look := func(seconds float64, sent int) any {
		stats := outbox.Stats{Numbers: map[string]outbox.NumberStats{"1": {States: map[outbox.State]int{outbox.StateSent: sent}}}}
		found, _ := r.perSecond(now.Add(time.Duration(seconds*float64(time.Second))), stats)
		if found == nil {
			return nil
		}
		return found["1"]
	}
	assert.Nil(t, look(0, 100), "nothing is known at first")
	assert.Nil(t, look(0, 100), "nor at the same moment")
	assert.Equal(t, 10.0, look(1, 110))
	assert.Equal(t, 10.0, look(4, 140))
	assert.Equal(t, 10.0, look(6, 160), "and from now on since this look, or the one before")
	assert.Equal(t, 5.0, look(8, 140+0), "since the first look")
	assert.Equal(t, 0.0, look(12, 0), "records went with the retention")
	assert.Equal(t, 0.0, look(22, 20), "since the look at 6 s")
	assert.Equal(t, 2.0, look(23, 22), "since the look at 12 s")
}
