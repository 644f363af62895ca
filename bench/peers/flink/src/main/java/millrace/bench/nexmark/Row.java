package millrace.bench.nexmark;

import java.io.IOException;
import millrace.bench.Serializer;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.types.StringValue;

/** A result of any query: up to four numbers and a text, and the number of the event that it is of. */
public final class Row {
    public static final TypeInformation<Row> TYPE = Serializer.type(Row.class, new RowSerializer());

    public long a;
    public long b;
    public long c;
    public long d;
    public String text = "";
    public long n;

    /** Sets all but the text. */
    Row set(long a, long b, long c, long d, long n) {
        this.a = a;
        this.b = b;
        this.c = c;
        this.d = d;
        this.n = n;
        return this;
    }

    Row set(NexmarkEvent.Bid b, String text) {
        set(b.auction, b.bidder, b.price, 0, b.n);
        this.text = text;
        return this;
    }

    Row set(Offer o) {
        return set(o.auction, o.bidder, o.price, 0, o.n);
    }

    /** Covers all fields. That of many rows is the sum, so that their order does not matter. */
    public long checksum() {
        return new Checksum().number(a).number(b).number(c).number(d).number(n).texts(text).value();
    }

    public static final class RowSerializer extends Serializer<Row> {
        @Override
        public Row createInstance() {
            return new Row();
        }

        @Override
        public Row copy(Row from, Row to) {
            to.set(from.a, from.b, from.c, from.d, from.n);
            to.text = from.text;
            return to;
        }

        @Override
        public void serialize(Row r, DataOutputView out) throws IOException {
            out.writeLong(r.a);
            out.writeLong(r.b);
            out.writeLong(r.c);
            out.writeLong(r.d);
            out.writeLong(r.n);
            StringValue.writeString(r.text, out);
        }

        @Override
        public Row deserialize(Row r, DataInputView in) throws IOException {
            r.set(in.readLong(), in.readLong(), in.readLong(), in.readLong(), in.readLong());
            r.text = StringValue.readString(in);
            return r;
        }

        @Override
        public TypeSerializerSnapshot<Row> snapshotConfiguration() {
            return new Snapshot();
        }
    }

    /** Names the serializer in checkpoints. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<Row> {
        public Snapshot() {
            super(RowSerializer::new);
        }
    }
}
