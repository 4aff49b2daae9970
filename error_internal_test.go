package graphretry

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// What is no valid JSON never gets so far, and would do no harm if it did.
func TestMembersEndWhereverTheirObjectBreaksOff(t *testing.T) {
	const object = `{"error": {"code": 2, "error_data": "a \"word\"", "list": [1, {"a": null}]}, "last": true}`
	for end := range len(object) + 1 {
		found := 0
		for _, value := range members([]byte(object[:end])) {
			text(value)
			integer(value)
			for range members(value) {
				found++
			}
			found++
		}
		assert.LessOrEqual(t, found, 5, object[:end])
	}
}
