package outbox

import "log/slog"

// These are the attributes of log lines, beside "graph" with Meta's error. The names are those
// of package graphretry where it has one.
func idOf(id string) slog.Attr { return slog.String("graphretry.outbox.message_id", id) }
func numberOf(number string) slog.Attr {
	return slog.String("graphretry.outbox.phone_number_id", number)
}
func reasonOf(reason string) slog.Attr { return slog.String("graphretry.reason", reason) }
func errorOf(text string) slog.Attr    { return slog.String("error.message", text) }
func panicOf(thrown string) slog.Attr  { return slog.String("graphretry.outbox.panic", thrown) }
func stackOf(stack []byte) slog.Attr {
	return slog.String("graphretry.outbox.stack", string(stack))
}
