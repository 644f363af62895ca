package millrace.bench;

import java.io.IOException;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.types.StringValue;

/** One reading of a device; job F's payload has the same fields and a firmware version. */
public final class Event {
    public static final TypeInformation<Event> TYPE = Serializer.type(Event.class, new EventSerializer());

    public String device;
    public long ts;
    public double temperature;
    public double humidity;
    public long seq;

    /** Writes the fields one after the other: less work than Flink's serializer of POJOs. */
    public static final class EventSerializer extends Serializer<Event> {
        @Override
        public Event createInstance() {
            return new Event();
        }

        @Override
        public Event copy(Event from, Event to) {
            to.device = from.device;
            to.ts = from.ts;
            to.temperature = from.temperature;
            to.humidity = from.humidity;
            to.seq = from.seq;
            return to;
        }

        @Override
        public void serialize(Event e, DataOutputView out) throws IOException {
            StringValue.writeString(e.device, out);
            out.writeLong(e.ts);
            out.writeDouble(e.temperature);
            out.writeDouble(e.humidity);
            out.writeLong(e.seq);
        }

        @Override
        public Event deserialize(Event e, DataInputView in) throws IOException {
            e.device = StringValue.readString(in);
            e.ts = in.readLong();
            e.temperature = in.readDouble();
            e.humidity = in.readDouble();
            e.seq = in.readLong();
            return e;
        }

        @Override
        public TypeSerializerSnapshot<Event> snapshotConfiguration() {
            return new Snapshot();
        }
    }

    /** Names the serializer in checkpoints. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<Event> {
        public Snapshot() {
            super(EventSerializer::new);
        }
    }
}
