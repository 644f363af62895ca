package millrace.bench;

import java.io.Serializable;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;

/** A sink that counts results and sums a value of each. */
final class Tally<T> implements Sink<T> {
    /** The value of a result. */
    interface Value<T> extends Serializable {
        double of(T t);
    }

    /** The checksum of a result. */
    interface Check<T> extends Serializable {
        long of(T t);
    }

    private final Value<T> value;
    private final Check<T> check;

    Tally(Value<T> value) {
        this(value, null);
    }

    /** Sums checksums, too, where check is not null. */
    Tally(Value<T> value, Check<T> check) {
        this.value = value;
        this.check = check;
    }

    @Override
    public SinkWriter<T> createWriter(WriterInitContext context) {
        return new Writer<>(value, check);
    }

    private static final class Writer<T> implements SinkWriter<T> {
        private final Value<T> value;
        private final Check<T> check;
        private long out;
        private double sum;
        private long checksum;

        Writer(Value<T> value, Check<T> check) {
            this.value = value;
            this.check = check;
        }

        @Override
        public void write(T t, Context context) {
            out++;
            sum += value.of(t);
            if (check != null) {
                checksum += check.of(t);
            }
        }

        @Override
        public void flush(boolean end) {
            if (end) {
                Probe.current().end(out, sum, checksum);
            }
        }

        @Override
        public void close() {}
    }
}
