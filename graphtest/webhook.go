package graphtest

import (
	"strconv"
	"time"

	"github.com/graphretry/graphretry"
)

// StatusWebhook returns the body of the webhook with which Meta reports the status
// of a message: "sent", "delivered", "read" or, with the codes of its errors,
// "failed". Its timestamp is now. It uses the message's ID, RecipientID,
// PhoneNumberID and CallbackData. The message can be one of [API.Accepted] or made
// by hand.
//
// See https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status.
func StatusWebhook(m Message, status string, errors ...graphretry.Code) []byte {
	type object = map[string]any
	report := object{
		"id":           m.ID,
		"status":       status,
		"timestamp":    strconv.FormatInt(time.Now().Unix(), 10),
		"recipient_id": m.RecipientID,
	}
	if m.CallbackData != "" {
		report["biz_opaque_callback_data"] = m.CallbackData
	}
	if status == "sent" || status == "delivered" {
		report["pricing"] = object{"billable": true, "pricing_model": "PMP", "type": "regular", "category": "utility"}
	}
	var failures []object
	for _, code := range errors {
		title := theCatalogue().lookUp(code).title
		failures = append(failures, object{
			"code":       int(code),
			"title":      title,
			"message":    title,
			"error_data": object{"details": title},
			"href":       "/documentation/business-messaging/whatsapp/support/error-codes",
		})
	}
	if failures != nil {
		report["errors"] = failures
	}
	return mustMarshal(object{
		"object": "whatsapp_business_account",
		"entry": []object{{
			"id": "102290129340398",
			"changes": []object{{
				"field": "messages",
				"value": object{
					"messaging_product": "whatsapp",
					"metadata": object{
						"display_phone_number": "15550783881",
						"phone_number_id":      m.PhoneNumberID,
					},
					"statuses": []object{report},
				},
			}},
		}},
	})
}
