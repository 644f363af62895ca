package millrace.bench;

import java.io.IOException;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** What a device's window comes to: accumulator and result of the window jobs. */
public final class Stats {
    public static final TypeInformation<Stats> TYPE = Serializer.type(Stats.class, new StatsSerializer());

    public double sum;
    public double max;
    public double min;
    public long count;

    /** What the jobs sum: average, maximum, minimum and count. */
    public double total() {
        return sum / count + max + min + count;
    }

    /** Aggregates temperatures in place. */
    public static final class Aggregate implements AggregateFunction<Event, Stats, Stats> {
        @Override
        public Stats createAccumulator() {
            Stats s = new Stats();
            s.max = Double.NEGATIVE_INFINITY;
            s.min = Double.POSITIVE_INFINITY;
            return s;
        }

        @Override
        public Stats add(Event e, Stats s) {
            double t = e.temperature;
            s.sum += t;
            s.count++;
            if (t > s.max) {
                s.max = t;
            }
            if (t < s.min) {
                s.min = t;
            }
            return s;
        }

        @Override
        public Stats getResult(Stats s) {
            return s;
        }

        @Override
        public Stats merge(Stats a, Stats b) {
            a.sum += b.sum;
            a.count += b.count;
            a.max = Math.max(a.max, b.max);
            a.min = Math.min(a.min, b.min);
            return a;
        }
    }

    public static final class StatsSerializer extends Serializer<Stats> {
        @Override
        public Stats createInstance() {
            return new Stats();
        }

        @Override
        public Stats copy(Stats from, Stats to) {
            to.sum = from.sum;
            to.max = from.max;
            to.min = from.min;
            to.count = from.count;
            return to;
        }

        @Override
        public void serialize(Stats s, DataOutputView out) throws IOException {
            out.writeDouble(s.sum);
            out.writeDouble(s.max);
            out.writeDouble(s.min);
            out.writeLong(s.count);
        }

        @Override
        public Stats deserialize(Stats s, DataInputView in) throws IOException {
            s.sum = in.readDouble();
            s.max = in.readDouble();
            s.min = in.readDouble();
            s.count = in.readLong();
            return s;
        }

        @Override
        public TypeSerializerSnapshot<Stats> snapshotConfiguration() {
            return new Snapshot();
        }
    }

    /** Names the serializer in checkpoints. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<Stats> {
        public Snapshot() {
            super(StatsSerializer::new);
        }
    }
}
