// Package graphtest is a fake of Meta's Graph API, for the tests of programs that
// use it. It fails as the real API does, as often and for as long as a test says,
// and records the calls that reach it.
//
//   - [New] and [WithSeed] make an [API].
//   - [API.AnswerNext], [API.Down], [API.DownAfter], [API.DownBetween], [API.AnswerShare] and
//     [API.SetLimit] script its answers, each an [Answer], which may end in a [Fault].
//   - [API.SetLatency] and [API.SetSlowShare] set how fast it is; [API.Clear] removes
//     the script.
//   - [API.Totals], [API.Calls], [API.CallsPerSecond], [API.Accepted],
//     [API.AcceptedKeys], [API.Duplicates] and [API.Lost] return what happened, as
//     values of [Call] and [Message].
//   - [API.RoundTrip] and [API.ServeHTTP] answer calls, in memory and over HTTP.
//     [NewServer] starts a [Server] with a client that reaches it.
//   - [StatusWebhook], [ErrorBody] and [Status] need no API.
//
// # In memory
//
// An API is an [http.RoundTripper]. In a [testing/synctest] bubble an outage of
// minutes is over in no time:
//
//	func TestReminderOutlastsAnOutage(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			api := graphtest.New()
//			api.Down(3*time.Minute, graphtest.Answer{Code: graphretry.CodeServiceUnavailable})
//
//			client, err := graphretry.WrapClient(&http.Client{Transport: api})
//			require.NoError(t, err)
//			require.NoError(t, sendReminder(client, "reminder-1")) // the code under test
//
//			require.Empty(t, api.Lost("reminder-1"))
//			require.Empty(t, api.Duplicates())
//		})
//	}
//
// # Over HTTP
//
// An API is also an [http.Handler], which answers over a real connection, HTTP/1.1
// or HTTP/2, by the same script. The client of a [Server] reaches it whatever the
// URL, so the code under test keeps its URLs:
//
//	server := graphtest.NewServer(t)
//	server.AnswerNext(1, graphtest.Answer{Fault: graphtest.FaultBreak, Accept: true})
//	client, err := graphretry.WrapClient(server.Client())
//	sendReminder(client, "reminder-1")
//
// # What it knows
//
// A path may begin with a version. No access token is needed.
//
//   - POST /{phone-number-id}/messages, with the fields of a message as JSON or as
//     a form: accepted, if it has messaging_product and to (or recipient), with an
//     id; otherwise code 100, or 131009 for a body that cannot be read. Marking a
//     message as read is answered with success, and is no message.
//   - POST /{phone-number-id}/media, a multipart form with messaging_product and
//     file: an id.
//   - POST / with batch: an answer for each part.
//   - GET /{id} is answered with that id, GET /{id}/{edge} with an empty list, and
//     every other call with {"success":true}.
//
// Messages are distinguished by their biz_opaque_callback_data, or by their whole
// body if they have none: see [Message].
package graphtest
