package graphtest_test

import (
	"bytes"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/graphretry/graphretry/graphtest"
)

func TestWellFormedMessageIsAcceptedWithAnID(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		answer := w.send(t, "order-1")

		require.Len(t, api.Accepted(), 1)
		accepted := api.Accepted()[0]
		assert.Regexp(t, `^wamid\.[A-Za-z0-9+/]+=*$`, accepted.ID)
		assert.Equal(t, http.StatusOK, answer.StatusCode)
		assert.JSONEq(t, `{"messaging_product":"whatsapp",`+
			`"contacts":[{"input":"+1 650-555-1234","wa_id":"16505551234"}],`+
			`"messages":[{"id":"`+accepted.ID+`"}]}`, answer.body)
		assert.Equal(t, "application/json; charset=UTF-8", answer.Header.Get("Content-Type"))
		assert.Equal(t, graphtest.APIVersion, answer.Header.Get("Facebook-Api-Version"))
		assert.EqualValues(t, len(answer.body), answer.ContentLength)

		call := api.Calls()[0]
		assert.Equal(t, graphtest.Message{
			Time: call.Time, ID: accepted.ID, Key: "order-1", CallbackData: "order-1",
			RecipientID: "16505551234", PhoneNumberID: "106540352242922", Body: []byte(message("order-1")),
		}, accepted)
		assert.Equal(t, graphtest.Call{
			Time: call.Time, Method: "POST", Path: messages, Body: []byte(message("order-1")),
			Size: int64(len(message("order-1"))), Status: 200, TraceID: answer.Header.Get("X-Fb-Trace-Id"), Accepted: true,
		}, call)
	})
}

func TestEachMessageGetsAnIDOfItsOwn(t *testing.T) {
	w, api := newMemory()
	w.send(t, "order-1")
	w.send(t, "order-1")
	assert.NotEqual(t, api.Accepted()[0].ID, api.Accepted()[1].ID)
}

func TestMessageMayComeInAnyEncodingOfTheGraphAPI(t *testing.T) {
	fields := map[string]string{
		"messaging_product": "whatsapp", "to": "16505551234", "type": "text",
		"text": `{"body":"Hello"}`, "biz_opaque_callback_data": "order-1",
	}
	values := url.Values{}
	for name, value := range fields {
		values.Set(name, value)
	}
	multipartType, multipartBody := form(t, fields, "")

	for name, test := range map[string]struct{ contentType, body string }{
		"JSON":                    {"application/json", message("order-1")},
		"JSON without its type":   {"", message("order-1")},
		"JSON with a number":      {"application/json", `{"messaging_product":"whatsapp","to":16505551234,"biz_opaque_callback_data":"order-1"}`},
		"URL-encoded form":        {"application/x-www-form-urlencoded", values.Encode()},
		"multipart form":          {multipartType, multipartBody},
		"JSON for a user's BSUID": {"application/json", `{"messaging_product":"whatsapp","recipient":"16505551234","biz_opaque_callback_data":"order-1"}`},
	} {
		t.Run(name, func(t *testing.T) {
			w, api := newMemory()
			answer := w.do(t, http.MethodPost, messages, test.contentType, test.body)
			assert.Equal(t, http.StatusOK, answer.StatusCode, answer.body)
			require.Len(t, api.Accepted(), 1)
			assert.Equal(t, "order-1", api.Accepted()[0].Key)
			assert.Equal(t, "16505551234", api.Accepted()[0].RecipientID)
		})
	}
}

func TestMalformedMessageIsRefusedAndNotAccepted(t *testing.T) {
	for name, test := range map[string]struct {
		contentType, body string
		code              int
		says              string
	}{
		"no body":              {"", "", 131009, "unexpected end of JSON input"},
		"no JSON":              {"", "{", 131009, "unexpected end of JSON input"},
		"no object":            {"", `["whatsapp"]`, 131009, "array"},
		"to is an object":      {"", `{"messaging_product":"whatsapp","to":{}}`, 131009, "must be a string"},
		"no form":              {"application/x-www-form-urlencoded", "to=%zz", 131009, "invalid URL escape"},
		"no messaging_product": {"", `{"to":"1"}`, 100, "The parameter messaging_product is required."},
		"another product":      {"", `{"messaging_product":"sms","to":"1"}`, 100, `got \"sms\"`},
		"no to":                {"", `{"messaging_product":"whatsapp"}`, 100, "The parameter to is required."},
		"a form without to":    {"application/x-www-form-urlencoded", "messaging_product=whatsapp", 100, "The parameter to is required."},
		"longer than 1 MiB":    {"", `{"messaging_product":"whatsapp","to":"1"}` + strings.Repeat(" ", 1<<20), 131009, "1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			w, api := newMemory()
			answer := w.do(t, http.MethodPost, messages, test.contentType, test.body)
			assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
			assert.Equal(t, test.code, answer.code(t))
			assert.Contains(t, answer.body, test.says)
			assert.Empty(t, api.Accepted())
			assert.EqualValues(t, test.code, api.Calls()[0].Code)
			assert.False(t, api.Calls()[0].Accepted)
		})
	}
}

func TestTemplateSaysThatItIsAccepted(t *testing.T) {
	w, _ := newMemory()
	answer := w.do(t, http.MethodPost, messages, "", `{"messaging_product":"whatsapp","to":"1","type":"template"}`)
	assert.Contains(t, answer.body, `"message_status":"accepted"`)
}

func TestMessageOfOneMiBIsTaken(t *testing.T) {
	w, api := newMemory()
	body := message("order-1")
	w.do(t, http.MethodPost, messages, "", body+strings.Repeat(" ", 1<<20-len(body)))
	assert.Equal(t, []string{"order-1"}, api.AcceptedKeys())
}

func TestAnswerNamesTheVersionOfThePathOrTheFakesOwn(t *testing.T) {
	w, _ := newMemory()
	for path, version := range map[string]string{"/v19.0/1": "v19.0", "/1": graphtest.APIVersion, "/version/1": graphtest.APIVersion} {
		assert.Equal(t, version, w.do(t, http.MethodGet, path, "", "").Header.Get("Facebook-Api-Version"), path)
	}
}

func TestMarkingAMessageAsReadIsNoMessage(t *testing.T) {
	w, api := newMemory()
	answer := w.do(t, http.MethodPost, messages, "", `{"messaging_product":"whatsapp","status":"read","message_id":"wamid.x"}`)
	assert.JSONEq(t, `{"success":true}`, answer.body)
	assert.Empty(t, api.Accepted())
}

func TestMediaUploadGetsAnID(t *testing.T) {
	contentType, body := form(t, map[string]string{"messaging_product": "whatsapp", "type": "image/png"}, "file")
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		answer := w.do(t, http.MethodPost, media, contentType, body)
		var got struct{ ID string }
		require.NoError(t, json.Unmarshal([]byte(answer.body), &got))
		assert.Regexp(t, `^\d{16}$`, got.ID)
		assert.Equal(t, body, string(api.Calls()[0].Body))
		assert.Empty(t, api.Accepted(), "an upload is no message")
	})
}

func TestMalformedMediaUploadIsRefused(t *testing.T) {
	whatsapp := map[string]string{"messaging_product": "whatsapp"}
	noFileType, noFile := form(t, whatsapp, "")
	noProductType, noProduct := form(t, nil, "file")
	cutType, cut := form(t, whatsapp, "file")
	for name, test := range map[string]struct{ contentType, body, says string }{
		"no file":              {noFileType, noFile, "The parameter file is required."},
		"no messaging_product": {noProductType, noProduct, "The parameter messaging_product is required."},
		"no form":              {"application/json", message("1"), "The parameter messaging_product is required."},
		"cut short":            {cutType, cut[:20], "The parameter messaging_product is required."},
	} {
		t.Run(name, func(t *testing.T) {
			w, api := newMemory()
			answer := w.do(t, http.MethodPost, media, test.contentType, test.body)
			assert.Equal(t, 100, answer.code(t))
			assert.Contains(t, answer.body, test.says)
			assert.EqualValues(t, len(test.body), api.Calls()[0].Size, "the body is read to its end all the same")
		})
	}
}

func TestOtherCallsGetSmallAnswers(t *testing.T) {
	overEachWay(t, func(t *testing.T, api *graphtest.API, w way) {
		for _, test := range []struct{ method, path, want string }{
			{"GET", "/v25.0/106540352242922?access_token=secret", `{"id":"106540352242922"}`},
			{"GET", "/106540352242922", `{"id":"106540352242922"}`},
			{"GET", "/v25.0/102290129340398/phone_numbers", `{"data":[]}`},
			{"DELETE", "/v25.0/1013859600285441", `{"success":true}`},
			{"POST", "/v25.0/106540352242922/register", `{"success":true}`},
		} {
			answer := w.do(t, test.method, test.path, "", "")
			assert.JSONEq(t, test.want, answer.body, "%s %s", test.method, test.path)
		}
		assert.Equal(t, 100, w.do(t, "GET", "/v25.0/", "", "").code(t))

		head := w.do(t, "HEAD", "/v25.0/106540352242922", "", "")
		assert.Empty(t, head.body)
		assert.Equal(t, "24", head.Header.Get("Content-Length"))
		assert.Equal(t, "/v25.0/106540352242922", api.Calls()[0].Path, "no call keeps its query")
	})
}

func newMemory() (way, *graphtest.API) {
	api := graphtest.New()
	return memory(api), api
}

// form is a multipart body with fields, and a file of that name if it has one.
func form(t *testing.T, fields map[string]string, file string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, value := range fields {
		require.NoError(t, w.WriteField(name, value))
	}
	if file != "" {
		part, err := w.CreateFormFile(file, "picture.png")
		require.NoError(t, err)
		_, err = part.Write(bytes.Repeat([]byte{0x89, 'P', 'N', 'G'}, 1000))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return w.FormDataContentType(), b.String()
}
