package store

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// New is a message that is about to be enqueued.
type New struct {
	ID, Number, Recipient string
	Payload, Headers      string
	Label                 string
	Urgent                bool
	NotBefore, ExpiresAt  time.Time
}

// hashOf returns the hash that is kept of the id of a deleted message.
func hashOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// byID returns the order in which messages are inserted. Two transactions that insert the same
// ids in opposite order would wait for each other.
func byID(messages []New) []int {
	order := make([]int, len(messages))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(messages[a].ID, messages[b].ID) })
	return order
}
