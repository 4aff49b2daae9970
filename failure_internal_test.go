package graphretry

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry/internal/netfail"
)

// Without an observer and without WithNetworkRetries nobody watches the connection.
func TestFailureThatNobodyWatchedIsToldAsOneThatNoHookTellsOf(t *testing.T) {
	policy, err := NewPolicy()
	assert.NoError(t, err)
	for err, reason := range map[error]Reason{
		errors.New("fasthttp: something went wrong"): ReasonAmbiguous,
		io.ErrUnexpectedEOF:                          ReasonAmbiguous,
		&net.OpError{Op: "dial", Err: io.EOF}:        ReasonNotRetried,
	} {
		for _, connection := range []*netfail.Connection{nil, new(netfail.Connection)} {
			f := &failure{err: err, connection: connection}
			assert.Equal(t, rule{0, reason}, f.networkRule(policy, &http.Request{Method: http.MethodPost}, nil), "%v, watched %v", err, connection != nil)
		}
	}
}
