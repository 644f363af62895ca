package millrace.bench.nexmark;

import java.io.IOException;
import java.util.Arrays;
import millrace.bench.Serializer;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;
import org.apache.flink.types.StringValue;

/** What queries keep and exchange beside bids, with serializers written by hand. */
public final class Values {
    private Values() {}

    /** How many bids a window of a key has, and the number of the last. */
    public static final class Counted {
        public static final TypeInformation<Counted> TYPE = Serializer.type(Counted.class, new CountedSerializer());

        public long key;
        public long bids;
        public long last;
        public long start;
        public long end;

        public static final class CountedSerializer extends Serializer<Counted> {
            @Override
            public Counted createInstance() {
                return new Counted();
            }

            @Override
            public Counted copy(Counted from, Counted to) {
                to.key = from.key;
                to.bids = from.bids;
                to.last = from.last;
                to.start = from.start;
                to.end = from.end;
                return to;
            }

            @Override
            public void serialize(Counted v, DataOutputView out) throws IOException {
                out.writeLong(v.key);
                out.writeLong(v.bids);
                out.writeLong(v.last);
                out.writeLong(v.start);
                out.writeLong(v.end);
            }

            @Override
            public Counted deserialize(Counted v, DataInputView in) throws IOException {
                v.key = in.readLong();
                v.bids = in.readLong();
                v.last = in.readLong();
                v.start = in.readLong();
                v.end = in.readLong();
                return v;
            }

            @Override
            public TypeSerializerSnapshot<Counted> snapshotConfiguration() {
                return new Snapshot();
            }
        }

        /** Names the serializer in checkpoints. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<Counted> {
            public Snapshot() {
                super(CountedSerializer::new);
            }
        }
    }

    /** The auctions with the most bids. */
    public static final class Most {
        public static final TypeInformation<Most> TYPE = Serializer.type(Most.class, new MostSerializer());

        public long bids;
        public long last;
        public int n;
        public long[] auctions = new long[10];

        void add(long auction, long bids, long last) {
            if (bids > this.bids) {
                this.bids = bids;
                this.last = last;
                n = 0;
            } else if (bids < this.bids) {
                return;
            }
            this.last = Math.max(this.last, last);
            if (n == auctions.length) {
                auctions = Arrays.copyOf(auctions, 2 * n);
            }
            auctions[n++] = auction;
        }

        public static final class MostSerializer extends Serializer<Most> {
            @Override
            public Most createInstance() {
                return new Most();
            }

            @Override
            public Most copy(Most from, Most to) {
                to.bids = from.bids;
                to.last = from.last;
                to.n = from.n;
                to.auctions = from.auctions.clone();
                return to;
            }

            @Override
            public void serialize(Most v, DataOutputView out) throws IOException {
                out.writeLong(v.bids);
                out.writeLong(v.last);
                out.writeInt(v.n);
                out.writeInt(v.auctions.length);
                for (long x : v.auctions) {
                    out.writeLong(x);
                }
            }

            @Override
            public Most deserialize(Most v, DataInputView in) throws IOException {
                v.bids = in.readLong();
                v.last = in.readLong();
                v.n = in.readInt();
                v.auctions = new long[in.readInt()];
                for (int i = 0; i < v.auctions.length; i++) {
                    v.auctions[i] = in.readLong();
                }
                return v;
            }

            @Override
            public TypeSerializerSnapshot<Most> snapshotConfiguration() {
                return new Snapshot();
            }
        }

        /** Names the serializer in checkpoints. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<Most> {
            public Snapshot() {
                super(MostSerializer::new);
            }
        }
    }

    /** The statistics of an auction's day. */
    public static final class Daily {
        public static final TypeInformation<Daily> TYPE = Serializer.type(Daily.class, new DailySerializer());

        public long bids;
        public long low;
        public long middle;
        public long high;
        public long min;
        public long max;
        public long sum;

        void add(Offer o) {
            min = bids == 0 ? o.price : Math.min(min, o.price);
            max = Math.max(max, o.price);
            bids++;
            sum += o.price;
            if (o.price < 10_000) {
                low++;
            } else if (o.price < 1_000_000) {
                middle++;
            } else {
                high++;
            }
        }

        public static final class DailySerializer extends Serializer<Daily> {
            @Override
            public Daily createInstance() {
                return new Daily();
            }

            @Override
            public Daily copy(Daily from, Daily to) {
                to.bids = from.bids;
                to.low = from.low;
                to.middle = from.middle;
                to.high = from.high;
                to.min = from.min;
                to.max = from.max;
                to.sum = from.sum;
                return to;
            }

            @Override
            public void serialize(Daily v, DataOutputView out) throws IOException {
                out.writeLong(v.bids);
                out.writeLong(v.low);
                out.writeLong(v.middle);
                out.writeLong(v.high);
                out.writeLong(v.min);
                out.writeLong(v.max);
                out.writeLong(v.sum);
            }

            @Override
            public Daily deserialize(Daily v, DataInputView in) throws IOException {
                v.bids = in.readLong();
                v.low = in.readLong();
                v.middle = in.readLong();
                v.high = in.readLong();
                v.min = in.readLong();
                v.max = in.readLong();
                v.sum = in.readLong();
                return v;
            }

            @Override
            public TypeSerializerSnapshot<Daily> snapshotConfiguration() {
                return new Snapshot();
            }
        }

        /** Names the serializer in checkpoints. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<Daily> {
            public Snapshot() {
                super(DailySerializer::new);
            }
        }
    }

    /** The ten highest prices of an auction, highest first. */
    public static final class Top {
        public static final TypeInformation<Top> TYPE = Serializer.type(Top.class, new TopSerializer());

        public int n;
        public long[] prices = new long[10];

        /** Tells whether the price is among them now; the earlier of equal ones stays before. */
        boolean add(long price) {
            int at = n;
            while (at > 0 && prices[at - 1] < price) {
                at--;
            }
            if (at == prices.length) {
                return false;
            }
            n = Math.min(n + 1, prices.length);
            System.arraycopy(prices, at, prices, at + 1, n - 1 - at);
            prices[at] = price;
            return true;
        }

        public static final class TopSerializer extends Serializer<Top> {
            @Override
            public Top createInstance() {
                return new Top();
            }

            @Override
            public Top copy(Top from, Top to) {
                to.n = from.n;
                to.prices = from.prices.clone();
                return to;
            }

            @Override
            public void serialize(Top v, DataOutputView out) throws IOException {
                out.writeInt(v.n);
                out.writeInt(v.prices.length);
                for (long x : v.prices) {
                    out.writeLong(x);
                }
            }

            @Override
            public Top deserialize(Top v, DataInputView in) throws IOException {
                v.n = in.readInt();
                v.prices = new long[in.readInt()];
                for (int i = 0; i < v.prices.length; i++) {
                    v.prices[i] = in.readLong();
                }
                return v;
            }

            @Override
            public TypeSerializerSnapshot<Top> snapshotConfiguration() {
                return new Snapshot();
            }
        }

        /** Names the serializer in checkpoints. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<Top> {
            public Snapshot() {
                super(TopSerializer::new);
            }
        }
    }

    /** An auction that was opened, with the number of its event. */
    public static final class Opened {
        public static final TypeInformation<Opened> TYPE = Serializer.type(Opened.class, new OpenedSerializer());

        public long seller;
        public long n;
        public long at;

        public static final class OpenedSerializer extends Serializer<Opened> {
            @Override
            public Opened createInstance() {
                return new Opened();
            }

            @Override
            public Opened copy(Opened from, Opened to) {
                to.seller = from.seller;
                to.n = from.n;
                to.at = from.at;
                return to;
            }

            @Override
            public void serialize(Opened v, DataOutputView out) throws IOException {
                out.writeLong(v.seller);
                out.writeLong(v.n);
                out.writeLong(v.at);
            }

            @Override
            public Opened deserialize(Opened v, DataInputView in) throws IOException {
                v.seller = in.readLong();
                v.n = in.readLong();
                v.at = in.readLong();
                return v;
            }

            @Override
            public TypeSerializerSnapshot<Opened> snapshotConfiguration() {
                return new Snapshot();
            }
        }

        /** Names the serializer in checkpoints. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<Opened> {
            public Snapshot() {
                super(OpenedSerializer::new);
            }
        }
    }

    /** A person who has registered. */
    public static final class Registered {
        public static final TypeInformation<Registered> TYPE = Serializer.type(Registered.class, new RegisteredSerializer());

        public long id;
        public String name;
        public long at;

        public static final class RegisteredSerializer extends Serializer<Registered> {
            @Override
            public Registered createInstance() {
                return new Registered();
            }

            @Override
            public Registered copy(Registered from, Registered to) {
                to.id = from.id;
                to.name = from.name;
                to.at = from.at;
                return to;
            }

            @Override
            public void serialize(Registered v, DataOutputView out) throws IOException {
                out.writeLong(v.id);
                StringValue.writeString(v.name, out);
                out.writeLong(v.at);
            }

            @Override
            public Registered deserialize(Registered v, DataInputView in) throws IOException {
                v.id = in.readLong();
                v.name = StringValue.readString(in);
                v.at = in.readLong();
                return v;
            }

            @Override
            public TypeSerializerSnapshot<Registered> snapshotConfiguration() {
                return new Snapshot();
            }
        }

        /** Names the serializer in checkpoints. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<Registered> {
            public Snapshot() {
                super(RegisteredSerializer::new);
            }
        }
    }
}
