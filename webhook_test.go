package graphretry_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry"
	"github.com/graphretry/graphretry/graphtest"
)

// publishedWebhook is Meta's own sample of a message that failed.
func publishedWebhook(t testing.TB) []byte {
	t.Helper()
	body, err := os.ReadFile("testdata/vectors/webhook_failed.json")
	require.NoError(t, err)
	return body
}

func TestFailureIsReadFromThePublishedWebhook(t *testing.T) {
	failures, err := graphretry.ParseWebhook(publishedWebhook(t))
	require.NoError(t, err)
	require.Len(t, failures, 1)

	failure := failures[0]
	assert.Equal(t, "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBI0QUQ2MjA4NEYyRkExNjMyREUA", failure.MessageID)
	assert.Equal(t, "16505551234", failure.RecipientID)
	assert.Equal(t, "106540352242922", failure.PhoneNumberID)
	assert.Empty(t, failure.CallbackData)
	assert.Equal(t, time.Date(2025, time.June, 28, 20, 34, 48, 0, time.UTC), failure.Time)
	assert.Equal(t, &graphretry.Error{
		Code:    131049,
		Message: "This message was not delivered to maintain healthy ecosystem engagement.",
		Details: "In order to maintain a healthy ecosystem engagement, the message failed to be delivered.",
		Raw:     failure.Graph.Raw,
	}, failure.Graph)
	assert.JSONEq(t, `{"code":131049,"title":"This message was not delivered to maintain healthy ecosystem engagement.",`+
		`"message":"This message was not delivered to maintain healthy ecosystem engagement.",`+
		`"error_data":{"details":"In order to maintain a healthy ecosystem engagement, the message failed to be delivered."},`+
		`"href":"/documentation/business-messaging/whatsapp/support/error-codes"}`, string(failure.Graph.Raw))
	assert.True(t, bytes.Contains(publishedWebhook(t), failure.Graph.Raw), "the error object as it was received")
	assert.Equal(t, graphretry.ClassRecipient, failure.Graph.Class())
	assert.Equal(t, retryDecision{Reason: graphretry.ReasonNotRetried}, decide(policyWith(t), failure.Graph, 0))
}

func TestFailureHasTheCallbackDataOfItsMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := graphtest.StatusWebhook(graphtest.Message{
			ID: "wamid.1", RecipientID: "16505551234", PhoneNumberID: "106540352242922", CallbackData: "reminder-1",
		}, "failed", 131000, 131026)
		failures, err := graphretry.ParseWebhook(body)
		require.NoError(t, err)
		require.Len(t, failures, 2, "one for each error")
		for i, code := range []graphretry.Code{131000, 131026} {
			failure := failures[i]
			assert.Equal(t, code, failure.Graph.Code)
			assert.Zero(t, failure.Graph.Status)
			assert.Equal(t, "wamid.1", failure.MessageID)
			assert.Equal(t, "16505551234", failure.RecipientID)
			assert.Equal(t, "106540352242922", failure.PhoneNumberID)
			assert.Equal(t, "reminder-1", failure.CallbackData)
			assert.True(t, failure.Time.Equal(time.Now()))
		}
		assert.True(t, decide(policyWith(t), failures[0].Graph, 0).Retry)
	})
}

func TestWebhookThatReportsNoErrorHasNoFailure(t *testing.T) {
	message := graphtest.Message{ID: "wamid.1", RecipientID: "16505551234", PhoneNumberID: "106540352242922"}
	for name, body := range map[string]string{
		"sent":                     string(graphtest.StatusWebhook(message, "sent")),
		"delivered":                string(graphtest.StatusWebhook(message, "delivered")),
		"read":                     string(graphtest.StatusWebhook(message, "read")),
		"failed without an error":  string(graphtest.StatusWebhook(message, "failed")),
		"a message that came in":   `{"entry":[{"changes":[{"value":{"messages":[{"from":"1","id":"wamid.1","timestamp":"1","type":"text","text":{"body":"{\"code\":2}"}}]}}]}]}`,
		"a template's new status":  `{"entry":[{"changes":[{"value":{"event":"REJECTED","reason":"NONE"},"field":"message_template_status_update"}]}]}`,
		"errors that have no code": `{"entry":[{"changes":[{"value":{"errors":[{"error_type":"TIMEOUT","error_rate":0.1}]},"field":"flows"}]}]}`,
		"another product's":        `{"object":"page","entry":[{"id":"1","time":1,"messaging":[{"errors":[{"code":2}]}]}]}`,
		"no entry":                 `{"object":"whatsapp_business_account","entry":[]}`,
		"an empty object":          ` { } `,
		"an answer, not a webhook": `{"error":{"code":2}}`,
	} {
		failures, err := graphretry.ParseWebhook([]byte(body))
		assert.NoError(t, err, name)
		assert.Empty(t, failures, name)
	}
}

func TestErrorsAreReadFromEveryPlaceOfAWebhook(t *testing.T) {
	failures, err := graphretry.ParseWebhook([]byte(`{"object":"whatsapp_business_account","entry":[
		{"id":"1","changes":[
			{"field":"messages","value":{
				"metadata":{"display_phone_number":"15550783881","phone_number_id":"first"},
				"statuses":[
					{"id":"wamid.1","status":"delivered","timestamp":"1751142888","recipient_id":"11"},
					{"id":"wamid.2","status":"failed","timestamp":"1751142889","recipient_id":"12","biz_opaque_callback_data":"two",
					 "errors":[{"code":131026,"title":"Message undeliverable"},{"code":131047,"title":"Re-engagement message"}]}],
				"messages":[
					{"from":"13","id":"wamid.3","timestamp":"1751142890","type":"unsupported",
					 "errors":[{"code":131051,"title":"Message type unknown","message":"Message type unknown","error_data":{"details":"not supported"}}]}],
				"errors":[{"code":130429,"title":"Rate limit hit"}]}},
			{"field":"calls","value":{
				"metadata":{"phone_number_id":"second"},
				"statuses":[{"id":"wacid.4","status":"FAILED","timestamp":1751142891,"recipient_id":"14","errors":[{"code":"138006"}]}]}}]},
		{"id":"2","changes":[
			{"value":{"errors":[{"code":1}]}}]}]}`))
	require.NoError(t, err)

	type row struct {
		code                                              graphretry.Code
		message, details, id, recipient, number, callback string
		time                                              int64
	}
	var got []row
	for _, failure := range failures {
		unix := int64(0)
		if !failure.Time.IsZero() {
			unix = failure.Time.Unix()
		}
		got = append(got, row{
			failure.Graph.Code, failure.Graph.Message, failure.Graph.Details,
			failure.MessageID, failure.RecipientID, failure.PhoneNumberID, failure.CallbackData, unix,
		})
	}
	assert.Equal(t, []row{
		{131026, "Message undeliverable", "", "wamid.2", "12", "first", "two", 1751142889},
		{131047, "Re-engagement message", "", "wamid.2", "12", "first", "two", 1751142889},
		{131051, "Message type unknown", "not supported", "wamid.3", "", "first", "", 1751142890},
		{130429, "Rate limit hit", "", "", "", "first", "", 0},
		{138006, "", "", "wacid.4", "14", "second", "", 1751142891},
		{1, "", "", "", "", "", "", 0},
	}, got)
}

// failureOf wraps a status in a webhook.
func failureOf(status string) []byte {
	return []byte(`{"entry":[{"changes":[{"value":{"statuses":[` + status + `]}}]}]}`)
}

func TestTitleOfAWebhooksErrorStandsInForItsMessage(t *testing.T) {
	for entry, message := range map[string]string{
		`{"code":1,"title":"title"}`:                           "title",
		`{"title":"title","code":1}`:                           "title",
		`{"code":1,"title":"title","message":"message"}`:       "message",
		`{"code":1,"message":"message","title":"title"}`:       "message",
		`{"code":1,"title":"title","message":""}`:              "title",
		`{"code":1,"message":"","title":"title"}`:              "title",
		`{"code":1,"title":"title","message":null}`:            "title",
		`{"code":1,"title":null,"message":"message"}`:          "message",
		`{"code":1,"details":"details","href":"/error-codes"}`: "",
	} {
		failures, err := graphretry.ParseWebhook(failureOf(`{"errors":[` + entry + `]}`))
		require.NoError(t, err, entry)
		require.Len(t, failures, 1, entry)
		assert.Equal(t, message, failures[0].Graph.Message, entry)
	}
}

func TestTimestampIsInSecondsAsAStringOrANumber(t *testing.T) {
	for timestamp, want := range map[string]time.Time{
		`"1751142888"`:           time.Unix(1751142888, 0).UTC(),
		`1751142888`:             time.Unix(1751142888, 0).UTC(),
		`"0"`:                    time.Unix(0, 0).UTC(),
		`""`:                     {},
		`"soon"`:                 {},
		`null`:                   {},
		`1751142888.5`:           {},
		`{}`:                     {},
		`[1751142888]`:           {},
		`99999999999999999999`:   {},
		`"99999999999999999999"`: {},
		`"2025-06-28T20:34:48Z"`: {},
	} {
		failures, err := graphretry.ParseWebhook(failureOf(`{"id":"wamid.1","timestamp":` + timestamp + `,"errors":[{"code":2}]}`))
		require.NoError(t, err, timestamp)
		require.Len(t, failures, 1, timestamp)
		assert.Equal(t, want, failures[0].Time, timestamp)
		assert.Equal(t, "wamid.1", failures[0].MessageID, timestamp)
	}
	failures, err := graphretry.ParseWebhook(failureOf(`{"errors":[{"code":2}]}`))
	require.NoError(t, err)
	assert.True(t, failures[0].Time.IsZero())
}

func TestInvalidEntryDoesNotHideOthers(t *testing.T) {
	const good = `{"id":"wamid.good","timestamp":"1751142888","recipient_id":"12","errors":[{"code":131026}]}`
	value := func(members string) string { return `{"entry":[{"changes":[{"value":{` + members + `}}]}]}` }
	for name, body := range map[string]string{
		"an entry":                   `{"entry":[7,"x",null,[],{"changes":[{"value":{"statuses":[` + good + `]}}]}]}`,
		"an entry's changes":         `{"entry":[{"changes":7},{"changes":{"value":{}}},{"changes":[{"value":{"statuses":[` + good + `]}}]}]}`,
		"a change":                   `{"entry":[{"changes":[null,"x",{"value":[]},{"value":"x"},{"value":{"statuses":[` + good + `]}}]}]}`,
		"the metadata":               value(`"metadata":7,"statuses":[` + good + `]`),
		"the phone number":           value(`"metadata":{"phone_number_id":7},"statuses":[` + good + `]`),
		"a status":                   value(`"statuses":[7,"x",null,[],` + good + `]`),
		"the messages":               value(`"messages":{"id":"wamid.1"},"statuses":[` + good + `]`),
		"the errors of the value":    value(`"errors":{"code":2},"statuses":[` + good + `]`),
		"the errors of a status":     value(`"statuses":[{"errors":{"code":2}},{"errors":"x"},{"errors":7},` + good + `]`),
		"an error of a status":       value(`"statuses":[{"errors":[7,"x",null,[{"code":2}],{"code":"x"},{"code":{}},{}]},` + good + `]`),
		"the id of another":          value(`"statuses":[{"id":{"x":1}},{"id":[]},` + good + `]`),
		"the recipient of another":   value(`"statuses":[{"recipient_id":12},` + good + `]`),
		"the callback data":          value(`"statuses":[{"biz_opaque_callback_data":{"x":1}},` + good + `]`),
		"whatever else stands there": value(`"contacts":7,"statuses":[{"pricing":7,"conversation":[]},` + good + `],"z":1e999`),
	} {
		failures, err := graphretry.ParseWebhook([]byte(body))
		require.NoError(t, err, name)
		require.Len(t, failures, 1, name)
		assert.Equal(t, "wamid.good", failures[0].MessageID, name)
		assert.EqualValues(t, 131026, failures[0].Graph.Code, name)
	}
}

func TestInvalidFieldOfAFailureIsLeftEmpty(t *testing.T) {
	failures, err := graphretry.ParseWebhook([]byte(`{"entry":[{"changes":[{"value":{"metadata":{"phone_number_id":7},"statuses":[` +
		`{"id":7,"recipient_id":{},"biz_opaque_callback_data":[],"timestamp":true,"errors":[{"code":2,"message":7,"error_data":7}]}]}}]}]}`))
	require.NoError(t, err)
	require.Len(t, failures, 1)
	failures[0].Graph.Raw = nil
	assert.Equal(t, graphretry.Failure{Graph: &graphretry.Error{Code: 2}, Path: "statuses[0].errors[0]"}, failures[0])
}

func TestBodyThatIsNoObjectIsAnErrorThatDoesNotEchoIt(t *testing.T) {
	for name, body := range map[string]string{
		"empty":            "",
		"white space":      " \n",
		"HTML":             "<html>s3cr3t</html>",
		"a form":           "entry=s3cr3t",
		"an array":         `[{"s3cr3t":1}]`,
		"a string":         `"s3cr3t"`,
		"a number":         `53537`,
		"null":             `null`,
		"cut off":          string(publishedWebhook(t)[:300]),
		"two objects":      `{"s3cr3t":1}{}`,
		"far too deep":     strings.Repeat(`{"s3cr3t":`, 20_000) + "1" + strings.Repeat("}", 20_000),
		"not even in text": "\x00\xff\xfes3cr3t",
	} {
		failures, err := graphretry.ParseWebhook([]byte(body))
		assert.Nil(t, failures, name)
		require.Error(t, err, name)
		assert.Regexp(t, `^graphretry: `, err.Error(), name)
		assert.ErrorContains(t, err, "webhook body is not a JSON object", name)
		assert.ErrorContains(t, err, "want ", name)
		assert.NotContains(t, err.Error(), "s3cr3t", name)
		assert.NotContains(t, err.Error(), "wamid", name)
	}
	_, err := graphretry.ParseWebhook(nil)
	assert.Error(t, err)
}

func TestFailureSharesNoMemoryWithTheBody(t *testing.T) {
	body := publishedWebhook(t)
	failures, err := graphretry.ParseWebhook(body)
	require.NoError(t, err)
	clear(body)
	again, err := graphretry.ParseWebhook(publishedWebhook(t))
	require.NoError(t, err)
	assert.Equal(t, again, failures)
}

func TestErrorsAreReadWhereverTheyStandInAValue(t *testing.T) {
	for _, test := range []struct {
		field, value string
		want         graphretry.Failure
	}{
		{
			"history", `"metadata":{"phone_number_id":"1"},"history":[{"errors":[{"code":2}]}]`,
			graphretry.Failure{PhoneNumberID: "1", Path: "history[0].errors[0]"},
		},
		{
			"history", `"history":[{},{"threads":[{"id":"16505551234","messages":[{"id":"wamid.1","timestamp":"7","errors":[{"code":"x"},{"code":2}]}]}]}]`,
			graphretry.Failure{MessageID: "wamid.1", Time: time.Unix(7, 0).UTC(), Path: "history[1].threads[0].messages[0].errors[1]"},
		},
		{
			"smb_message_echoes", `"message_echoes":[{"errors":[{"code":2}],"id":"wamid.2","timestamp":7}]`,
			graphretry.Failure{MessageID: "wamid.2", Time: time.Unix(7, 0).UTC(), Path: "message_echoes[0].errors[0]"},
		},
		{
			"group_participants_update", `"groups":[{"timestamp":"7","group_id":"g","failed_participants":[{"input":"1"},{"input":"2","errors":[{"code":2}]}]}]`,
			graphretry.Failure{GroupID: "g", Time: time.Unix(7, 0).UTC(), Path: "groups[0].failed_participants[1].errors[0]"},
		},
		{
			"messages", `"statuses":[{"id":"wamid.3","recipient_user_id":"US.13491208655302741918","status":"failed","errors":[{"code":2}]}]`,
			graphretry.Failure{MessageID: "wamid.3", RecipientUserID: "US.13491208655302741918", Path: "statuses[0].errors[0]"},
		},
		{
			"tomorrow's", `"id":"outer","recipient_id":"12","a":{"b":[[{"id":7,"c":{"errors":[{"code":2}]}}]]}`,
			graphretry.Failure{MessageID: "outer", RecipientID: "12", Path: "a.b[0][0].c.errors[0]"},
		},
		{
			"tomorrow's groups", `"recipient_id":"12","recipient_participant_id":"1","a":{"recipient_id":"g","recipient_type":"group","recipient_participant_id":7,"errors":[{"code":2}]}`,
			graphretry.Failure{GroupID: "g", ParticipantID: "1", Path: "a.errors[0]"},
		},
		{
			"nested", `"errors":[{"errors":[{"code":2}]}]`,
			graphretry.Failure{Path: "errors[0].errors[0]"},
		},
	} {
		failures, err := graphretry.ParseWebhook([]byte(`{"entry":[{"changes":[{"field":"` + test.field + `","value":{` + test.value + `}}]}]}`))
		require.NoError(t, err, test.value)
		require.Len(t, failures, 1, test.value)
		failures[0].Graph.Raw = nil
		test.want.Graph, test.want.Field = &graphretry.Error{Code: 2}, test.field
		assert.Equal(t, test.want, failures[0], test.value)
	}
}

// The shapes are those of Meta's status reference and of its page on group messages.
func TestFailureOfAParticipantIsToldFromThatOfTheGroup(t *testing.T) {
	const group, errs = `"recipient_id":"Y2FwaV9ncm91cDox","recipient_type":"group"`, `"errors":[{"code":2}]`
	for name, test := range map[string]struct {
		status string
		want   graphretry.Failure
	}{
		"the group":                      {group, graphretry.Failure{GroupID: "Y2FwaV9ncm91cDox"}},
		"the group, its type first":      {`"recipient_type":"group","recipient_id":"g"`, graphretry.Failure{GroupID: "g"}},
		"a participant":                  {group + `,"recipient_participant_id":"16505551234"`, graphretry.Failure{GroupID: "Y2FwaV9ncm91cDox", ParticipantID: "16505551234"}},
		"a participant by the user ID":   {group + `,"recipient_participant_user_id":"US.13491"`, graphretry.Failure{GroupID: "Y2FwaV9ncm91cDox", ParticipantUserID: "US.13491"}},
		"a participant by both":          {`"recipient_participant_user_id":"US.13491","recipient_participant_id":"16505551234",` + group, graphretry.Failure{GroupID: "Y2FwaV9ncm91cDox", ParticipantID: "16505551234", ParticipantUserID: "US.13491"}},
		"a person":                       {`"recipient_id":"16505551234"`, graphretry.Failure{RecipientID: "16505551234"}},
		"a person, with a type":          {`"recipient_id":"16505551234","recipient_type":"individual"`, graphretry.Failure{RecipientID: "16505551234"}},
		"a type that is no string":       {`"recipient_id":"16505551234","recipient_type":["group"]`, graphretry.Failure{RecipientID: "16505551234"}},
		"a group of which nothing is":    {`"recipient_type":"group"`, graphretry.Failure{}},
		"participants that are no texts": {group + `,"recipient_participant_id":16505551234,"recipient_participant_user_id":{}`, graphretry.Failure{GroupID: "Y2FwaV9ncm91cDox"}},
	} {
		// The status before it says nothing of this one.
		failures, err := graphretry.ParseWebhook(failureOf(
			`{"id":"wamid.0",` + group + `,"recipient_participant_id":"1","recipient_participant_user_id":"2"},{"id":"wamid.1",` + test.status + `,` + errs + `}`))
		require.NoError(t, err, name)
		require.Len(t, failures, 1, name)
		test.want.Graph, failures[0].Graph.Raw = &graphretry.Error{Code: 2}, nil
		test.want.MessageID, test.want.Path = "wamid.1", "statuses[1].errors[0]"
		assert.Equal(t, test.want, failures[0], name)
	}
}

func TestWebhookIsVerifiedByItsSignature(t *testing.T) {
	// GitHub publishes this vector; it signs webhooks in the same way.
	const secret, payload = "It's a Secret to Everybody", "Hello, World!"
	const digits = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	assert.NoError(t, graphretry.VerifyWebhook([]byte(payload), "sha256="+digits, []byte(secret)))
	assert.NoError(t, graphretry.VerifyWebhook([]byte(payload), "sha256="+strings.ToUpper(digits), []byte(secret)))
	// Of no body, as openssl dgst -sha256 -hmac key computes it.
	assert.NoError(t, graphretry.VerifyWebhook(nil, "sha256=5d5d139563c95b5967b9bd9a8c9b233a9dedb45072794cd232dc1b74832607d0", []byte("key")))

	for name, test := range map[string]struct{ body, signature, secret, want string }{
		"no signature":                 {payload, "", secret, "has no signature: want the header X-Hub-Signature-256"},
		"no secret":                    {payload, "sha256=" + digits, "", "the app secret is empty: want the App Secret"},
		"neither":                      {payload, "", "", "the app secret is empty"},
		"no secret, and signed so":     {payload, "sha256=" + signatureOf(payload, ""), "", "the app secret is empty"},
		"no digits":                    {payload, "sha256=", secret, "malformed"},
		"no prefix":                    {payload, digits, secret, "malformed"},
		"another hash":                 {payload, "sha1=" + digits[:40], secret, "malformed"},
		"another hash's name":          {payload, "sha1=" + digits, secret, "malformed"},
		"a capital prefix":             {payload, "SHA256=" + digits, secret, "malformed"},
		"a digit less":                 {payload, "sha256=" + digits[:63], secret, "malformed"},
		"a byte less":                  {payload, "sha256=" + digits[:62], secret, "malformed"},
		"a byte more":                  {payload, "sha256=" + digits + "00", secret, "malformed"},
		"no hexadecimal digit":         {payload, "sha256=" + digits[:63] + "g", secret, "malformed"},
		"white space":                  {payload, "sha256=" + digits + " ", secret, "malformed"},
		"twice":                        {payload, "sha256=" + digits + ",sha256=" + digits, secret, "malformed"},
		"another first digit":          {payload, "sha256=8" + digits[1:], secret, "wrong signature"},
		"another last digit":           {payload, "sha256=" + digits[:63] + "8", secret, "wrong signature"},
		"another body":                 {"Hello, world!", "sha256=" + digits, secret, "wrong signature"},
		"a longer body":                {payload + "\n", "sha256=" + digits, secret, "wrong signature"},
		"no body":                      {"", "sha256=" + digits, secret, "wrong signature"},
		"another secret":               {payload, "sha256=" + digits, "It's a secret to everybody", "wrong signature"},
		"a line end behind the secret": {payload, "sha256=" + digits, secret + "\n", "wrong signature"},
		"the signature's own key":      {payload, "sha256=" + signatureOf(payload, "public"), secret, "wrong signature"},
	} {
		err := graphretry.VerifyWebhook([]byte(test.body), test.signature, []byte(test.secret))
		require.ErrorContains(t, err, test.want, name)
		assert.Regexp(t, `^graphretry: webhook .*: want `, err.Error(), name)
		assert.NotContains(t, err.Error(), "Everybody", name)
		assert.NotRegexp(t, `(?i)[0-9a-f]{16}`, err.Error(), "%s: no signature, neither theirs nor ours", name)
	}
}

// signatureOf returns the digits of a body's signature.
func signatureOf(body, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestWebhookThatNestsTooDeepIsReadInNoTime(t *testing.T) {
	const deep = 9_000
	body := `{"entry":[{"changes":[{"value":` + strings.Repeat(`{"a":`, deep) + `"` + strings.Repeat("x", 1<<20) + `"` + strings.Repeat("}", deep) +
		`},{"value":{"errors":[{"code":2}]}}]}]}`
	failures, err := graphretry.ParseWebhook([]byte(body))
	require.NoError(t, err)
	assert.Len(t, failures, 1)
}

// Anybody can post to a webhook's URL.
func TestWebhookThatIsNotMetasTakesNoMoreThanItsSize(t *testing.T) {
	body := `{"entry":[{"changes":[{"value":{"` + strings.Repeat("k", 200_000) + `":{` +
		strings.TrimSuffix(strings.Repeat(`"a":{},`, 30_000), ",") + `},"errors":[{"code":2}]}}]}]}`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	failures, err := graphretry.ParseWebhook([]byte(body))
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Len(t, failures, 1, "what stands beside it is read")
	assert.Equal(t, "errors[0]", failures[0].Path)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(100*len(body)), "bytes")
}

// A Failure takes more than the error that it is made of, but not hundreds of times.
func TestFailuresOfADeepPathTakeLittleMemory(t *testing.T) {
	const deep, failures = 30, 20_000
	name := strings.Repeat("n", 120)
	body := `{"entry":[{"changes":[{"value":` + strings.Repeat(`{"`+name+`":`, deep) +
		`{"errors":[` + strings.Repeat(`{"code":1},`, failures) + `{}]}` + strings.Repeat("}", deep) + `}]}]}`
	found, err := graphretry.ParseWebhook([]byte(body))
	require.NoError(t, err)
	assert.Empty(t, found, "its path is longer than any of Meta's")

	found, err = graphretry.ParseWebhook([]byte(`{"entry":[{"changes":[{"value":{"` + name + `":{"errors":[{"code":1}]}}}]}]}`))
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.Equal(t, name+".errors[0]", found[0].Path)
}
