package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
)

// cures are the errors that do not pass by themselves, and what to do.
var cures = map[error]string{
	kerr.TopicAuthorizationFailed:           "let the user read or write the topic (kafka-acls --add --topic)",
	kerr.GroupAuthorizationFailed:           "let the user read the group (kafka-acls --add --group)",
	kerr.ClusterAuthorizationFailed:         "let the user write idempotently (kafka-acls --add --cluster --operation IdempotentWrite)",
	kerr.TransactionalIDAuthorizationFailed: "let the user write and describe the transactional id (kafka-acls --add --transactional-id)",
	kerr.SaslAuthenticationFailed:           "check sasl.user and sasl.password",
	kerr.UnsupportedSaslMechanism:           "set sasl.mechanism to one that the listener has (sasl.enabled.mechanisms)",
	kerr.IllegalSaslState:                   "the listener wants another way of logging in: check sasl and the port",
	kerr.UnsupportedVersion:                 "the brokers are too old: Kafka 0.11 is needed, 2.5 for transactions",
	kerr.InvalidTopicException:              "the name is not one of a topic",
	kerr.InvalidGroupID:                     "the name is not one of a group",
	kerr.UnknownMemberID:                    "other consumers have joined the group: give this topology a group of its own",
	kerr.IllegalGeneration:                  "other consumers have joined the group: give this topology a group of its own",
	kerr.RebalanceInProgress:                "other consumers have joined the group: give this topology a group of its own",
	kerr.InvalidTransactionTimeout:          "transaction_timeout is more than the brokers' transaction.max.timeout.ms",
	kerr.ProducerFenced:                     "another process writes under the same transactional_id: give each its own",
	kerr.UnsupportedCompressionType:         "the brokers are too old for zstd: set compression to lz4",
	kerr.PolicyViolation:                    "a policy of the brokers forbids it",
	kerr.OffsetMetadataTooLarge:             "raise offset.metadata.max.bytes",
}

// Err classes an error of the client or of a broker: what passes by itself is transient, anything else names the cure.
func Err(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, kgo.ErrClientClosed):
		return err
	case flow.IsTransient(err):
		return err
	}
	for e, cure := range cures {
		if errors.Is(err, e) {
			return fmt.Errorf("%w; %s", err, cure)
		}
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return fmt.Errorf("%w; set tls.ca_file to the authority that signed the brokers' certificates, or tls.server_name", err)
	}
	var plaintext tls.RecordHeaderError
	if errors.As(err, &plaintext) {
		return fmt.Errorf("%w; the listener has no TLS: check tls.enabled and the port", err)
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(cause, ErrNoAnswer) {
		return flow.Transient(fmt.Errorf("%w (%w)", cause, err))
	}
	return flow.Transient(err)
}

// Refused tells whether brokers have refused a batch for what a single record in it may have caused.
func Refused(err error) bool {
	for _, e := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.CorruptMessage,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
