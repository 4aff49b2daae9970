package page

import (
	"log/slog"
	"net/http"
)

// Option changes one setting of [Handler]. If two options set the same thing, the later one
// applies.
type Option struct {
	apply func(*settings)
}

type settings struct {
	user     func(*http.Request) string
	logger   *slog.Logger
	payloads bool
}

// WithUser sets a function that returns the name of the user of a request, such as the one that
// your login has found. The log has it as user.name beside what the user changes. By default it
// is left out.
func WithUser(user func(*http.Request) string) Option {
	return Option{func(s *settings) { s.user = user }}
}

// WithLogger sets the logger for changes and failures. The default is [slog.Default], so that
// changes are on record; nil means the default too. The names of the attributes are those of
// [graphretry.WithLogger] and [outbox.WithLogger].
//
// [graphretry.WithLogger]: https://pkg.go.dev/github.com/graphretry/graphretry#WithLogger
func WithLogger(logger *slog.Logger) Option {
	return Option{func(s *settings) { s.logger = logger }}
}

// WithPayload shows the payload on the page of a message. It has the recipient and the text. By
// default it is not shown.
func WithPayload() Option {
	return Option{func(s *settings) { s.payloads = true }}
}
