package simulate

import (
	"context"
	"fmt"
	"log/slog"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/millrace-stream/millrace/topologies/iot"
)

// refusedSubscription is what a broker answers to a filter that it does not allow.
const refusedSubscription = 0x80

// OpenSessions makes the sessions that the MQTT source will use, with their subscription, so that the broker keeps what is published
// before the source has connected for the first time.
func OpenSessions(ctx context.Context, cfg iot.MQTTConfig) error {
	filter := cfg.Topic + "/#"
	return eachSession(ctx, cfg, false, func(c paho.Client) error {
		token := c.Subscribe("$share/"+cfg.Group+"/"+filter, 1, nil)
		token.Wait()
		if err := token.Error(); err != nil {
			return fmt.Errorf("MQTT broker %s: subscription to %s: %w", cfg.Broker, filter, err)
		}
		if token.(*paho.SubscribeToken).Result()[filter] == refusedSubscription {
			return fmt.Errorf("MQTT broker %s: subscription to %s refused", cfg.Broker, filter)
		}
		return nil
	})
}

// DropSessions makes the broker forget the sessions, with all that it keeps for them.
func DropSessions(ctx context.Context, cfg iot.MQTTConfig) error {
	return eachSession(ctx, cfg, true, func(paho.Client) error { return nil })
}

func eachSession(ctx context.Context, cfg iot.MQTTConfig, clean bool, do func(paho.Client) error) error {
	for i := range cfg.Clients {
		id := cfg.ClientID
		if cfg.Clients > 1 {
			id = fmt.Sprintf("%s-%d", cfg.ClientID, i)
		}
		c := paho.NewClient(paho.NewClientOptions().AddBroker(cfg.Broker).SetClientID(id).SetUsername(cfg.Username).
			SetPassword(cfg.Password.Reveal()).SetCleanSession(clean).SetAutoReconnect(false))
		if err := connect(ctx, c, Broker{URL: cfg.Broker, Username: cfg.Username}, slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
		err := do(c)
		c.Disconnect(250)
		if err != nil {
			return err
		}
	}
	return nil
}
