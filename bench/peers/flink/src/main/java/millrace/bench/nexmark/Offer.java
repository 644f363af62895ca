package millrace.bench.nexmark;

import java.io.IOException;
import millrace.bench.Serializer;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** A bid without its texts: all that keyed queries look at, and so all that they exchange. */
public final class Offer {
    public static final TypeInformation<Offer> TYPE = Serializer.type(Offer.class, new OfferSerializer());

    public long auction;
    public long bidder;
    public long price;
    public long at;
    public long n;

    void set(NexmarkEvent.Bid b) {
        auction = b.auction;
        bidder = b.bidder;
        price = b.price;
        at = b.at;
        n = b.n;
    }

    void set(Offer o) {
        auction = o.auction;
        bidder = o.bidder;
        price = o.price;
        at = o.at;
        n = o.n;
    }

    public static final class OfferSerializer extends Serializer<Offer> {
        @Override
        public Offer createInstance() {
            return new Offer();
        }

        @Override
        public Offer copy(Offer from, Offer to) {
            to.set(from);
            return to;
        }

        @Override
        public int getLength() {
            return 40;
        }

        @Override
        public void serialize(Offer o, DataOutputView out) throws IOException {
            out.writeLong(o.auction);
            out.writeLong(o.bidder);
            out.writeLong(o.price);
            out.writeLong(o.at);
            out.writeLong(o.n);
        }

        @Override
        public Offer deserialize(Offer o, DataInputView in) throws IOException {
            o.auction = in.readLong();
            o.bidder = in.readLong();
            o.price = in.readLong();
            o.at = in.readLong();
            o.n = in.readLong();
            return o;
        }

        @Override
        public TypeSerializerSnapshot<Offer> snapshotConfiguration() {
            return new Snapshot();
        }
    }

    /** Names the serializer in checkpoints. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<Offer> {
        public Snapshot() {
            super(OfferSerializer::new);
        }
    }
}
