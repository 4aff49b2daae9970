package graphtest_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/graphretry/graphretry/graphtest"
)

func TestStatusWebhookReportsAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := graphtest.Message{
			ID: "wamid.1", RecipientID: "16505551234", PhoneNumberID: "106540352242922", CallbackData: "order-1",
		}
		anonymous := graphtest.Message{ID: "wamid.2", RecipientID: "16505551234", PhoneNumberID: "106540352242922"}
		const title = "Meta chose not to deliver"
		now := strconv.FormatInt(time.Now().Unix(), 10)
		for name, test := range map[string]struct {
			body   []byte
			status string
		}{
			"delivered": {
				graphtest.StatusWebhook(sent, "delivered"),
				`{"id":"wamid.1","status":"delivered","timestamp":"` + now + `","recipient_id":"16505551234",
				  "biz_opaque_callback_data":"order-1",
				  "pricing":{"billable":true,"pricing_model":"PMP","type":"regular","category":"utility"}}`,
			},
			"read, without callback data": {
				graphtest.StatusWebhook(anonymous, "read"),
				`{"id":"wamid.2","status":"read","timestamp":"` + now + `","recipient_id":"16505551234"}`,
			},
			"failed": {
				graphtest.StatusWebhook(sent, "failed", 131049),
				`{"id":"wamid.1","status":"failed","timestamp":"` + now + `","recipient_id":"16505551234",
				  "biz_opaque_callback_data":"order-1",
				  "errors":[{"code":131049,"title":"` + title + `","message":"` + title + `",
				    "error_data":{"details":"` + title + `"},
				    "href":"/documentation/business-messaging/whatsapp/support/error-codes"}]}`,
			},
		} {
			assert.JSONEq(t, `{"object":"whatsapp_business_account","entry":[{"id":"102290129340398","changes":[{
			  "field":"messages","value":{"messaging_product":"whatsapp",
			    "metadata":{"display_phone_number":"15550783881","phone_number_id":"106540352242922"},
			    "statuses":[`+test.status+`]}}]}]}`, string(test.body), name)
		}
	})
}
