package words_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/outbox/internal/words"
)

func TestTimeIsToldByHowFarItIsAway(t *testing.T) {
	now := time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)
	for away, want := range map[time.Duration]string{
		0: "0s ago", -999 * time.Millisecond: "0s ago", -time.Second: "in 1s",
		12*time.Second + 999*time.Millisecond: "12s ago", 59 * time.Minute: "59m ago",
		47 * time.Hour: "47h ago", 48 * time.Hour: "2d ago", -3 * time.Minute: "in 3m",
	} {
		assert.Equal(t, want, words.Away(now.Add(-away), now), away)
	}
}

func TestAgeCanBeInDays(t *testing.T) {
	for text, want := range map[string]time.Duration{"3d": 72 * time.Hour, "90s": 90 * time.Second, "1h30m": 90 * time.Minute} {
		got, err := words.ParseAge(text)
		assert.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "3", "-3d", "d", "99999999d", "1d2h"} {
		_, err := words.ParseAge(text)
		assert.Error(t, err, text)
	}
}

func TestThousandsStandApart(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		assert.Equal(t, want, words.Count(n))
	}
}

func TestTitleIsTheCataloguesOrElseMetasText(t *testing.T) {
	assert.Equal(t, "Message Undeliverable", words.Title(&graphretry.Error{Code: 131026, Message: "other"}))
	assert.Equal(t, "for the user", words.Title(&graphretry.Error{Code: 7777, UserTitle: "for the user", Message: "other"}))
	assert.Equal(t, "other ", words.Title(&graphretry.Error{Code: 7777, Message: "other\x1b"}))
	assert.Equal(t, "code 7777", words.Title(&graphretry.Error{Code: 7777}))
	assert.NotEmpty(t, words.Advice(&graphretry.Error{Code: 131026}))
}

func TestTextOfOthersDrawsNothing(t *testing.T) {
	assert.Equal(t, "a [2J b\nc", words.Plain("a\x1b[2J\u202eb\nc"))
	assert.Equal(t, "a [2J b c", words.Line("a\x1b[2J\u202eb\nc"))
}
